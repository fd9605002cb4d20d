"""Attention taken apart into its one product and what remains, and put together in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from retort.recipes.graph_view import MICROSOFT, GraphView, attribute

ATTRIBUTES = ("num_heads", "scale", "mask_filter_value")
MASK = 4  # of the inputs of MultiHeadAttention


def spread_attention(view: GraphView, node: NodeProto) -> list[NodeProto] | None:
    """Return the product of the three weights of ``Attention``, and ``MultiHeadAttention``.

    Args:
        view: The graph; gets the constants that the nodes need.
        node: An ``Attention`` node of ONNX Runtime.

    Returns:
        Nodes that compute the same, or None where the node does more than that.
    """
    if not _splits_evenly(view, node):
        return None
    activations, weight, bias, mask = (*node.input, "")[:4]
    name, width = node.name, view.shape(weight)[0]
    sizes = view.add_constant(f"{name}_sizes", np.full(3, width, np.int64))
    parts = [f"{name}_{part}" for part in ("query", "key", "value")]
    product, projected = f"{name}_product", f"{name}_projected"
    return [
        helper.make_node("MatMul", [activations, weight], [product], f"{name}_MatMul"),
        helper.make_node("Add", [product, bias], [projected], f"{name}_Add"),
        helper.make_node("Split", [projected, sizes], parts, f"{name}_Split", axis=-1),
        helper.make_node(
            "MultiHeadAttention", [*parts, "", mask] if mask else parts, list(node.output), name,
            domain=MICROSOFT, **_settings(node),
        ),
    ]  # fmt: skip


def _splits_evenly(view: GraphView, node: NodeProto) -> bool:
    given = [name for name in node.input[4:] if name]
    weight = view.shape(node.input[1]) if view.is_float_table(node.input[1]) else (0, 0)
    plain = not attribute(node, "unidirectional", 0) and not attribute(node, "do_rotary", 0)
    return plain and not given and len(node.output) == 1 and weight[1] == 3 * weight[0] > 0


def _settings(node: NodeProto) -> dict[str, Any]:
    """Return the attributes that all three operators have."""
    return {name: value for name in ATTRIBUTES if (value := attribute(node, name)) is not None}


def join_attention(view: GraphView) -> None:
    """Write an integer product, its ``Split`` and ``MultiHeadAttention`` as ``QAttention``.

    It computes the same bit by bit, without a copy of queries, keys and values.
    """
    producers, consumers = view.producers(), view.consumers()
    joined: dict[str, list[NodeProto]] = {}
    for node in view.nodes:
        split = _split(view, node, producers, consumers)
        product = producers.get(split.input[0]) if split is not None else None
        if split is None or product is None or product.op_type != "MatMulIntegerToFloat":
            continue
        if len(consumers[product.output[0]]) == 1 and product.output[0] not in view.outputs:
            joined[node.name] = [_joined(node, product)]
            joined[split.name] = joined[product.name] = []
    view.replace(joined)


def _split(
    view: GraphView,
    node: NodeProto,
    producers: Mapping[str, NodeProto],
    consumers: Mapping[str, list[NodeProto]],
) -> NodeProto | None:
    """Return the node that makes the three inputs of an attention, and nothing else, or None."""
    if node.op_type != "MultiHeadAttention" or len(node.output) > 1:
        return None
    split = producers.get(node.input[0])
    if split is None or split.op_type != "Split" or list(node.input[:3]) != list(split.output):
        return None
    others = [*node.input[3:MASK], *node.input[MASK + 1 :]]
    read_once = all(len(consumers[part]) == 1 for part in split.output)
    sizes = split.input[1] if len(split.input) > 1 else ""
    even = view.is_constant(sizes) and len(set(np.ravel(view.constant(sizes)))) == 1
    plain = not any(others) and not attribute(node, "unidirectional", 0)
    last = attribute(split, "axis", 0) in (-1, 2)
    return split if plain and read_once and even and last else None


def _joined(node: NodeProto, product: NodeProto) -> NodeProto:
    values, weight, scale, weight_scale, zero, weight_zero, bias = product.input
    mask = node.input[MASK] if len(node.input) > MASK else ""
    inputs = [values, weight, bias, scale, weight_scale, mask, zero, weight_zero]
    return helper.make_node(
        "QAttention", inputs, list(node.output), node.name, domain=MICROSOFT, **_settings(node)
    )
