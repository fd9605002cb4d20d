"""The products of activations and constant weights, which is where 8 bits gain speed."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from retort.recipes.graph_view import GraphView

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
