"""Attention whose three projections are one integer product, as one operator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, helper

from retort.recipes.graph_view import MICROSOFT, GraphView, attribute

ATTRIBUTES = ("num_heads", "scale", "mask_filter_value")
MASK = 4  # of the inputs of MultiHeadAttention


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
    kept = {name: value for name in ATTRIBUTES if (value := attribute(node, name)) is not None}
    inputs = [values, weight, bias, scale, weight_scale, mask, zero, weight_zero]
    return helper.make_node(
        "QAttention", inputs, list(node.output), node.name, domain=MICROSOFT, **kept
    )
