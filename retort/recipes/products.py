"""The products of activations and constant weights, which is where 8 bits gain speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper

from retort.recipes.graph_view import MICROSOFT, GraphView, attribute

LEAST_COLUMNS = 8  # a head of a few labels costs nothing in fp32, and decides everything


@dataclass(frozen=True)
class Product:
    """One product of activations ``[..., rows]`` and a constant weight ``[rows, columns]``.

    Attributes:
        node: The name of its ``MatMul`` node.
        input: The activations.
        weight: The weight.
        bias: A constant ``[columns]`` that a following ``Add`` brings; empty where none does.
        output: The value that is made, bias included.
        absorbed: The name of that ``Add`` node; empty where there is none.
    """

    node: str
    input: str
    weight: str
    bias: str
    output: str
    absorbed: str


@dataclass(frozen=True)
class Group:
    """The products that read the same activations, which are quantized once for all of them.

    Attributes:
        input: The activations.
        products: At least one.
    """

    input: str
    products: tuple[Product, ...]


def spread_out(view: GraphView) -> None:
    """Write fused attention and ``Gemm`` as plain products beside what remains of them.

    ``Attention`` of ONNX Runtime becomes the product of its three weights at once, and
    ``MultiHeadAttention``, which computes the same; in 8 bits this is faster than ``QAttention``.
    """
    changed: dict[str, list[NodeProto]] = {}
    for node in view.nodes:
        if node.op_type == "Attention" and node.domain == MICROSOFT and _splits_evenly(view, node):
            changed[node.name] = _spread_attention(view, node)
        elif node.op_type == "Gemm" and _is_plain_gemm(view, node):
            changed[node.name] = _spread_gemm(view, node)
    view.replace(changed)


def find_groups(view: GraphView) -> tuple[Group, ...]:
    """Return the products of a graph by the activations they read, in the graph's order."""
    consumers = view.consumers()
    found: dict[str, list[Product]] = {}
    for node in view.nodes:
        if node.op_type != "MatMul" or not view.is_float_table(node.input[1]):
            continue
        if view.shape(node.input[1])[1] >= LEAST_COLUMNS and not view.is_constant(node.input[0]):
            product = _product(view, node, consumers[node.output[0]])
            found.setdefault(product.input, []).append(product)
    return tuple(Group(name, tuple(products)) for name, products in found.items())


def _product(view: GraphView, node: NodeProto, readers: list[NodeProto]) -> Product:
    activations, weight = node.input
    output = node.output[0]
    if len(readers) == 1 and readers[0].op_type == "Add" and output not in view.outputs:
        add = readers[0]
        other = next((name for name in add.input if name != output), "")
        if other and view.is_constant(other) and view.shape(other) == view.shape(weight)[1:]:
            return Product(node.name, activations, weight, other, add.output[0], add.name)
    return Product(node.name, activations, weight, "", output, "")


def _splits_evenly(view: GraphView, node: NodeProto) -> bool:
    given = [name for name in node.input[4:] if name]
    weight = view.shape(node.input[1]) if view.is_float_table(node.input[1]) else (0, 0)
    plain = not attribute(node, "unidirectional", 0) and not attribute(node, "do_rotary", 0)
    return plain and not given and len(node.output) == 1 and weight[1] == 3 * weight[0] > 0


def _spread_attention(view: GraphView, node: NodeProto) -> list[NodeProto]:
    activations, weight, bias, mask = (*node.input, "")[:4]
    name, width = node.name, view.shape(weight)[0]
    sizes = view.add_constant(f"{name}_sizes", np.full(3, width, np.int64))
    parts = [f"{name}_{part}" for part in ("query", "key", "value")]
    kept = {
        key: value
        for key in ("num_heads", "scale", "mask_filter_value")
        if (value := attribute(node, key)) is not None
    }
    attention = helper.make_node(
        "MultiHeadAttention", [*parts, "", mask] if mask else parts, list(node.output), name,
        domain=MICROSOFT, **kept,
    )  # fmt: skip
    product = f"{name}_product"
    return [
        helper.make_node("MatMul", [activations, weight], [product], f"{name}_MatMul"),
        helper.make_node("Add", [product, bias], [f"{name}_projected"], f"{name}_Add"),
        helper.make_node("Split", [f"{name}_projected", sizes], parts, f"{name}_Split", axis=-1),
        attention,
    ]


def _is_plain_gemm(view: GraphView, node: NodeProto) -> bool:
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    constant = all(view.is_constant(name) for name in node.input[1:] if name)
    return plain and not attribute(node, "transA", 0) and constant


def _spread_gemm(view: GraphView, node: NodeProto) -> list[NodeProto]:
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


def load(model: onnx.ModelProto) -> GraphView:
    """Return a model taken apart, with every product of its main graph standing by itself."""
    view = GraphView(model)
    spread_out(view)
    return view
