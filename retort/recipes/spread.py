"""Fused operators written as plain products beside what remains of them, as 8 bits take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import NodeProto, helper

from retort.recipes.attention import spread_attention
from retort.recipes.graph_view import MICROSOFT, GraphView, attribute
from retort.recipes.sums import subtract_products


def load(model: onnx.ModelProto) -> GraphView:
    """Return a model taken apart, with every product of its main graph standing by itself."""
    view = GraphView(model)
    spread_out(view)
    subtract_products(view)
    return view


def spread_out(view: GraphView) -> None:
    """Write ``Attention``, ``Gemm`` and operators that add a bias as several nodes, in place.

    ``Attention`` of ONNX Runtime becomes the product of its three weights at once, and
    ``MultiHeadAttention``, which computes the same. A bias by itself can be added by the integer
    product. ``SkipLayerNormalization`` is two operators that are three times as fast.
    """
    spread: dict[str, list[NodeProto]] = {}
    for node in view.nodes:
        writer = WRITERS.get((node.domain, node.op_type))
        nodes = writer(view, node) if writer is not None else None
        if nodes is not None:
            spread[node.name] = nodes
    view.replace(spread)


def _gemm(view: GraphView, node: NodeProto) -> list[NodeProto] | None:
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    constant = all(view.is_constant(name) for name in node.input[1:] if name)
    if not plain or not constant or attribute(node, "transA", 0):
        return None
    weight = node.input[1]
    if attribute(node, "transB", 0):
        weight = view.add_constant(f"{weight}_transposed", view.constant(weight).T)
    bias = node.input[2] if len(node.input) > 2 else ""
    product = f"{node.name}_product" if bias else node.output[0]
    nodes = [helper.make_node("MatMul", [node.input[0], weight], [product], f"{node.name}_MatMul")]
    if bias:
        nodes.append(
            helper.make_node("Add", [product, bias], list(node.output), f"{node.name}_Add")
        )
    return nodes


def _bias_gelu(view: GraphView, node: NodeProto) -> list[NodeProto]:
    del view
    name, biased = node.name, f"{node.name}_biased"
    return [
        helper.make_node("Add", list(node.input), [biased], f"{name}_Add"),
        helper.make_node("Gelu", [biased], list(node.output), name, domain=MICROSOFT),
    ]


def _skip_normalization(view: GraphView, node: NodeProto) -> list[NodeProto] | None:
    has_bias = len(node.input) > 4 and node.input[4]
    if len(node.input) < 4 or not node.input[3] or any(node.output[1:3]):
        return None
    opsets = {opset.domain: opset.version for opset in view.model.opset_import}
    # Before opset 17 the operator has no standard.
    if opsets.get("", 0) < 17:
        return None
    value, skip, gamma, beta = node.input[:4]
    name = node.name
    total = node.output[3] if len(node.output) > 3 and node.output[3] else f"{name}_total"
    nodes = []
    if has_bias:
        nodes.append(
            helper.make_node("Add", [value, node.input[4]], [f"{name}_biased"], f"{name}_Add")
        )
        value = f"{name}_biased"
    epsilon = attribute(node, "epsilon", 1e-12)
    return [
        *nodes,
        helper.make_node("Add", [value, skip], [total], f"{name}_sum"),
        helper.make_node(
            "LayerNormalization", [total, gamma, beta], [node.output[0]], name, axis=-1,
            epsilon=epsilon,
        ),
    ]  # fmt: skip


Writer = Callable[[GraphView, NodeProto], list[NodeProto] | None]
WRITERS: Mapping[tuple[str, str], Writer] = {
    (MICROSOFT, "Attention"): spread_attention,
    (MICROSOFT, "BiasGelu"): _bias_gelu,
    (MICROSOFT, "SkipLayerNormalization"): _skip_normalization,
    ("", "Gemm"): _gemm,
}
