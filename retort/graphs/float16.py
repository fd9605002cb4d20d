"""Conversion to float16, in subgraphs too, that leaves in fp32 what float16 cannot hold."""

from __future__ import annotations

import itertools
from collections import ChainMap
from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from retort.graphs.constant_weights import set_nodes
from retort.graphs.float16_limits import LARGEST_HALF, exact_nodes, soften_masks
from retort.graphs.onnx_file import graphs_of, nodes_of
from retort.graphs.value_types import float_values

FULL, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LEAST_HALF = 5.96e-08
NAMES = {FULL: "float32", HALF: "float16"}
# Under which name a value is known in 32 and in 16 bits.
Known = ChainMap[str, dict[int, str]]


def convert_to_float16(model: onnx.ModelProto, large: Collection[str] = ()) -> None:
    """Make a graph float16, with float32 inputs and outputs.

    What float16 cannot hold stays in fp32: see ``float16_limits``. ONNX Runtime's converter puts
    the casts of a subgraph outside it, where its values are unknown.

    Args:
        model: The fp32 graph; changed in place.
        large: Names of values that float16 may not hold.
    """
    graph = model.graph
    soften_masks(model)
    _lift_constants(graph)
    _Halver(graph, exact_nodes(graph, large)).convert()
    for part in graphs_of(graph):
        del part.value_info[:]


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Make initializers of the outer graph's constants, of which each reader takes its own type."""
    kept = []
    for node in graph.node:
        tensor = node.attribute[0].t if node.op_type == "Constant" else None
        if tensor is not None and tensor.data_type == FULL:
            lifted = graph.initializer.add()
            lifted.CopyFrom(tensor)
            lifted.name = node.output[0]
        else:
            kept.append(node)
    set_nodes(graph, kept)


class _Halver:
    """One conversion: which values are fp32, which nodes stay so, and the names given so far."""

    def __init__(self, graph: onnx.GraphProto, exact: set[str]) -> None:
        self._graph, self._exact = graph, exact
        self._floats = float_values(graph)
        self._outputs = {value.name for value in graph.output}
        self._numbers = itertools.count()

    def convert(self) -> None:
        """Convert the graph."""
        known: Known = ChainMap(self._constants())
        inputs = {value.name for value in self._graph.input} & self._floats
        known.update({name: {FULL: name} for name in inputs if name not in known})
        set_nodes(self._graph, self._convert(self._graph, known))

    def _constants(self) -> dict[str, dict[int, str]]:
        """Store each constant in the types that are read, and return their names."""
        read: dict[str, set[int]] = {}
        for node in nodes_of(self._graph):
            for name in node.input:
                read.setdefault(name, set()).add(self._kind(node))
        names = {}
        for tensor in [t for t in self._graph.initializer if t.data_type == FULL]:
            kinds = read.get(tensor.name, {FULL})
            names[tensor.name] = {FULL: tensor.name}
            if kinds == {HALF}:
                names[tensor.name] = {HALF: tensor.name}
                tensor.CopyFrom(_halved(tensor, tensor.name))
            elif HALF in kinds:
                names[tensor.name][HALF] = f"{tensor.name}_{NAMES[HALF]}"
                self._graph.initializer.append(_halved(tensor, names[tensor.name][HALF]))
        return names

    def _kind(self, node: NodeProto) -> int:
        return FULL if node.output[0] in self._exact else HALF

    def _convert(self, graph: onnx.GraphProto, known: Known) -> list[NodeProto]:
        made: list[NodeProto] = []
        for node in graph.node:
            self._convert_node(node, known, made)
        return made

    def _convert_node(self, node: NodeProto, known: Known, made: list[NodeProto]) -> None:
        kind = self._kind(node)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                self._convert_branch(attribute.g, kind, known)
        for place, name in enumerate(node.input):
            if name in self._floats:
                node.input[place] = self._named(name, kind, known, made)
        if kind == HALF:
            _halve_attributes(node)
        made.append(node)
        known.update({name: {kind: name} for name in self._floats.intersection(node.output)})
        if kind == HALF:
            self._give_outputs(node, known, made)

    def _give_outputs(self, node: NodeProto, known: Known, made: list[NodeProto]) -> None:
        """Let the graph's own outputs stay fp32, under their names."""
        for place, name in enumerate(node.output):
            if name in self._floats & self._outputs:
                node.output[place] = f"{name}_{NAMES[HALF]}"
                made.append(_cast(node.output[place], name, FULL))
                known[name] = {HALF: node.output[place], FULL: name}

    def _convert_branch(self, branch: onnx.GraphProto, kind: int, outside: Known) -> None:
        known = outside.new_child({v.name: {FULL: v.name} for v in _given(branch)})
        nodes = self._convert(branch, known)
        for output in branch.output:
            if output.name in self._floats:
                output.name = self._named(output.name, kind, known, nodes)
                output.type.tensor_type.elem_type = kind
        set_nodes(branch, nodes)

    def _named(self, name: str, kind: int, known: Known, made: list[NodeProto]) -> str:
        """Return the name of a value in one of the types, casting it where it has none."""
        names = known[name]
        if kind not in names:
            (given,) = names.values()
            fresh = f"{name}_{NAMES[kind]}_{next(self._numbers)}"
            made.append(_cast(given, fresh, kind))
            known[name] = names = {**names, kind: fresh}
        return names[kind]


def _given(branch: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto | TensorProto]:
    yield from branch.input
    yield from branch.initializer


def _halve_attributes(node: NodeProto) -> None:
    """Let a Cast give float16 where it gave fp32, and a node that fills a shape fill it so."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FULL:
            attribute.i = HALF
        if node.op_type == "ConstantOfShape" and attribute.t.data_type == FULL:
            attribute.t.CopyFrom(_halved(attribute.t, attribute.t.name))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = helper.make_tensor("value", HALF, [1], [0])
        node.attribute.append(helper.make_attribute("value", zero))


def _halved(tensor: TensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    finite = values.clip(-LARGEST_HALF, LARGEST_HALF)
    if values.size == 1 and 0 < finite < LEAST_HALF:
        finite = np.full_like(values, LEAST_HALF)  # a divisor must not become zero
    half = np.asarray(np.where(np.isinf(values), values, finite), np.float16)
    return numpy_helper.from_array(half, name)


def _cast(name: str, result: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [name], [result], name=f"{result}_cast", to=kind)
