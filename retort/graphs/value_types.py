"""Which values of a graph are fp32, from what it declares and from what operators give."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx
from onnx import NodeProto, TensorProto

from retort.graphs.onnx_file import graphs_of

WITHOUT_FLOATS = frozenset(
    {
        "And", "ArgMax", "ArgMin", "ConvInteger", "Equal", "Greater", "GreaterOrEqual", "IsInf",
        "IsNaN", "Less", "LessOrEqual", "MatMulInteger", "NonZero", "Not", "Or", "QuantizeLinear",
        "Shape", "Size", "Xor",
    }
)  # fmt: skip
# Of these the other outputs are indices or bytes.
PLACES_OF_FLOATS = {
    "DynamicQuantizeLinear": (1,),
    "EmbedLayerNormalization": (0, 2),
    "MaxPool": (0,),
    "TopK": (0,),
    "Unique": (0,),
}


def float_values(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all fp32 values, those of subgraphs included.

    What the graph declares counts; where it says nothing, the operator decides: most give floats
    where they are given any.
    """
    declared = dict(_declared(graph))
    found = {name for name, kind in declared.items() if kind == TensorProto.FLOAT}
    _spread(graph, declared.keys(), found)
    return found


def _spread(graph: onnx.GraphProto, declared: Collection[str], found: set[str]) -> None:
    for node in graph.node:
        inner = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
        for subgraph in inner:
            _spread(subgraph, declared, found)
        for place, name in enumerate(node.output):
            if not name or name in declared:
                continue
            results = [subgraph.output[place].name for subgraph in inner[:1]]
            if any(result in found for result in results) or _gives_float(node, place, found):
                found.add(name)


def _gives_float(node: NodeProto, place: int, found: set[str]) -> bool:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Cast":
        return bool(attributes["to"].i == TensorProto.FLOAT)
    if node.op_type in {"Constant", "ConstantOfShape"}:
        tensor = attributes.get("value")
        kinds = {"value_float", "value_floats"} & attributes.keys()
        of_float = tensor is not None and tensor.t.data_type == TensorProto.FLOAT
        return of_float or bool(kinds) or not attributes
    if node.op_type in WITHOUT_FLOATS or place not in PLACES_OF_FLOATS.get(node.op_type, (place,)):
        return False
    return any(name in found for name in node.input)


def _declared(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    for part in graphs_of(graph):
        for value in (*part.value_info, *part.input, *part.output):
            if value.type.tensor_type.elem_type:
                yield value.name, value.type.tensor_type.elem_type
        for tensor in part.initializer:
            yield tensor.name, tensor.data_type
