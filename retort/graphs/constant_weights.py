"""The constant matrices of a graph, and the rewriting of the nodes that multiply by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from retort.graphs.onnx_file import nodes_of

MICROSOFT_DOMAIN = "com.microsoft"
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
NARROWEST = 16  # a matrix with a shorter side, such as a classifier's, saves nothing

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Weight:
    """A matrix that is multiplied by.

    Attributes:
        name: A name of its own; a matrix that is used transposed as well has two.
        values: Float32 or float16 ``[inputs, outputs]``.
    """

    name: str
    values: Array


class ConstantWeights:
    """Finds the matrices behind names, through the Identity and Transpose nodes before them.

    Exporters share a matrix between layers by an Identity, and between the first and the last
    layer by a Transpose.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers: dict[str, NodeProto] = {}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t
            elif node.op_type in {"Identity", "Transpose"}:
                self._makers[node.output[0]] = node

    def find(self, name: str) -> Weight | None:
        """Return the matrix, or None for what is not constant, has not two axes, or no floats."""
        turned = False
        while name in self._makers:
            turned ^= self._makers[name].op_type == "Transpose"
            name = self._makers[name].input[0]
        tensor = self._tensors.get(name)
        if tensor is None or len(tensor.dims) != 2 or tensor.data_type not in FLOATS:
            return None
        values = numpy_helper.to_array(tensor)
        return Weight(f"{name}_turned", values.T) if turned else Weight(name, values)


Multiply = Callable[[NodeProto, Weight], Sequence[NodeProto]]


def replace_products(model: onnx.ModelProto, multiply: Multiply) -> int:
    """Replace the products of an activation and a constant matrix, those in subgraphs included.

    Args:
        model: A graph whose weights are in the outer graph; changed in place.
        multiply: Returns the nodes for ``MatMul(activation, matrix)``.

    Returns:
        How many products were replaced.
    """
    weights = ConstantWeights(model.graph)
    replaced = 0

    def product(node: NodeProto) -> Sequence[NodeProto]:
        nonlocal replaced
        plain = _as_matmul(node)
        weight = weights.find(node.input[1]) if plain else None
        if weight is None or min(weight.values.shape) < NARROWEST:
            return [node]
        replaced += 1
        return [*multiply(plain[0], _right_way(node, weight)), *plain[1:]]

    replace_nodes(model.graph, product)
    return replaced


def replace_nodes(
    graph: onnx.GraphProto, replace: Callable[[NodeProto], Sequence[NodeProto]]
) -> None:
    """Put nodes in the place of each node of a graph and of its subgraphs."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                replace_nodes(attribute.g, replace)
    fresh = [replacement for node in graph.node for replacement in replace(node)]
    set_nodes(graph, fresh)


def set_nodes(graph: onnx.GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Make these, of which some may be the graph's own, all the nodes of a graph."""
    kept = [_copied(node) for node in nodes]  # deleting a node empties it
    del graph.node[:]
    graph.node.extend(kept)


def add_initializer(graph: onnx.GraphProto, name: str, values: Array) -> str:
    """Add a constant to a graph, and return its name."""
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the constants, and the nodes between them, that nothing reads any more."""
    kept = list(graph.node)
    while True:
        used = {value.name for value in graph.output} | set(_read(kept))
        still = [node for node in kept if used & set(node.output)]
        if len(still) == len(kept):
            break
        kept = still
    set_nodes(graph, kept)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def import_microsoft_operators(model: onnx.ModelProto) -> None:
    """Let a graph use ONNX Runtime's own operators."""
    if all(opset.domain != MICROSOFT_DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT_DOMAIN, 1))


def _as_matmul(node: NodeProto) -> list[NodeProto]:
    """Return a product as a MatMul, followed by the sum of its bias if it has one."""
    if node.op_type == "MatMul" and node.domain == "":
        return [node]
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    settings.pop("transB", None)
    if node.op_type != "Gemm" or any(value not in (0, 1.0) for value in settings.values()):
        return []
    if settings.get("transA") or 0 in (settings.get("alpha"), settings.get("beta")):
        return []
    bias = [name for name in node.input[2:] if name]
    product = f"{node.output[0]}_without_bias" if bias else node.output[0]
    matmul = helper.make_node("MatMul", node.input[:2], [product], name=node.name)
    if not bias:
        return [matmul]
    return [
        matmul,
        helper.make_node("Add", [product, *bias], node.output, name=f"{node.name}_bias"),
    ]


def _right_way(node: NodeProto, weight: Weight) -> Weight:
    if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        return Weight(f"{weight.name}_of_gemm", weight.values.T)
    return weight


def _read(nodes: Sequence[NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from (value.name for value in attribute.g.output)
                for inner in nodes_of(attribute.g):
                    yield from inner.input


def _copied(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied
