"""Sums before a normalization, written as differences, which ONNX Runtime does not fuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import NodeProto, helper

from retort.recipes.graph_view import GraphView

NORMALIZATIONS = frozenset({"LayerNormalization"})


@dataclass(frozen=True)
class _Product:
    """A product of a constant weight, with the constant bias that is added to it.

    Attributes:
        node: Its ``MatMul`` node.
        bias: The ``Add`` node of its bias; None where there is none.
    """

    node: NodeProto
    bias: NodeProto | None


def subtract_products(view: GraphView) -> None:
    """Write ``a + product`` before a normalization as ``a - negative product``, in place.

    ONNX Runtime fuses an ``Add`` before ``LayerNormalization`` into ``SkipLayerNormalization``,
    whose kernel takes three times as long as the two: about 8% of a MiniLM in 8 bits.
    """
    producers, consumers = view.producers(), view.consumers()
    differences: dict[str, list[NodeProto]] = {}
    for node in view.nodes:
        total = producers.get(node.input[0]) if node.op_type in NORMALIZATIONS else None
        if total is None or total.op_type != "Add" or total.name in differences:
            continue
        for product, other in (tuple(total.input), tuple(total.input)[::-1]):
            found = _product(view, producers, consumers, product)
            if found is not None and not view.is_constant(other):
                _negate(view, found)
                inputs, outputs = [other, product], list(total.output)
                differences[total.name] = [helper.make_node("Sub", inputs, outputs, total.name)]
                break
    view.replace(differences)


def _product(
    view: GraphView,
    producers: Mapping[str, NodeProto],
    consumers: Mapping[str, list[NodeProto]],
    name: str,
) -> _Product | None:
    """Return the product that a value is, if one node alone reads it, bias included."""
    node = producers.get(name)
    if node is None or len(consumers[name]) > 1 or name in view.outputs:
        return None
    if node.op_type == "MatMul" and view.is_float_table(node.input[1]):
        return _Product(node, None)
    inner = [one for one in node.input if not view.is_constant(one)]
    if node.op_type == "Add" and len(inner) == 1:
        found = _product(view, producers, consumers, inner[0])
        if found is not None and found.bias is None:
            return _Product(found.node, node)
    return None


def _negate(view: GraphView, product: _Product) -> None:
    for node in filter(None, (product.node, product.bias)):
        for at, name in enumerate(node.input):
            if view.is_constant(name):
                node.input[at] = view.add_constant(f"{name}_negative", -view.constant(name))
