"""A graph taken apart: its nodes and its constants by name, to be changed and rebuilt."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from retort.graphs.onnx_file import nodes_of

Array = npt.NDArray[Any]
MICROSOFT = "com.microsoft"


class GraphView:
    """The nodes and constants of a model's main graph.

    Attributes:
        model: The model; its nodes and initializers are written back by ``rebuilt``.
        nodes: Its nodes in topological order, each with a name of its own.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take a model apart; ``Constant`` nodes become initializers."""
        self.model = model
        self.nodes: list[NodeProto] = []
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made: dict[str, Array] = {}
        names: set[str] = set()
        for index, node in enumerate(model.graph.node):
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensor = node.attribute[0].t
                tensor.name = node.output[0]
                self._tensors[tensor.name] = tensor
                continue
            if not node.name or node.name in names:
                node.name = f"{node.op_type}_{index}"
            names.add(node.name)
            self.nodes.append(node)

    @property
    def outputs(self) -> set[str]:
        """The names of the graph's outputs."""
        return {value.name for value in self.model.graph.output}

    def is_constant(self, name: str) -> bool:
        """Tell whether a value is an initializer or a constant."""
        return name in self._made or name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a constant, without reading its values."""
        if name in self._made:
            return self._made[name].shape
        return tuple(self._tensors[name].dims)

    def is_float_table(self, name: str) -> bool:
        """Tell whether a value is a constant fp32 matrix."""
        tensor = self._tensors.get(name)
        if name in self._made:
            return self._made[name].dtype == np.float32 and self._made[name].ndim == 2
        return tensor is not None and tensor.data_type == 1 and len(tensor.dims) == 2

    def constant(self, name: str) -> Array:
        """Return the values of a constant; a copy."""
        if name in self._made:
            return self._made[name].copy()
        return numpy_helper.to_array(self._tensors[name]).copy()

    def add_constant(self, name: str, values: Array) -> str:
        """Add a constant, or replace the one of that name, and return the name."""
        self._made[name] = np.asarray(values, order="C")
        return name

    def consumers(self) -> Mapping[str, list[NodeProto]]:
        """Return the nodes that read each value; those in subgraphs count as readers too."""
        found: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                found[name].append(node)
            for inner in (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH):
                for name in {name for within in nodes_of(inner) for name in within.input}:
                    found[name].append(node)
        return found

    def producers(self) -> Mapping[str, NodeProto]:
        """Return the node that makes each value."""
        return {output: node for node in self.nodes for output in node.output}

    def replace(self, replacements: Mapping[str, Sequence[NodeProto]]) -> None:
        """Put nodes in the place of those with the given names."""
        self.nodes = [
            fresh for node in self.nodes for fresh in replacements.get(node.name, (node,))
        ]

    def rebuilt(self) -> onnx.ModelProto:
        """Return the model with today's nodes, and those constants that they read."""
        graph = self.model.graph
        used = Counter(name for node in self.nodes for name in node.input)
        used.update(self.outputs)
        for node in self.nodes:
            for inner in (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH):
                used.update(name for within in nodes_of(inner) for name in within.input)
        kept = [t for n, t in self._tensors.items() if n in used and n not in self._made]
        made = [numpy_helper.from_array(v, n) for n, v in self._made.items() if n in used]
        nodes = [_copied(node) for node in self.nodes]
        kept = [_copied_tensor(tensor) for tensor in kept]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend([*kept, *made])
        if any(node.domain == MICROSOFT for node in nodes):
            _import_microsoft(self.model)
        return self.model


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _import_microsoft(model: onnx.ModelProto) -> None:
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _copied(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _copied_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    return copy
