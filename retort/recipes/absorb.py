"""Division of a value's channels, done by the constants that the value is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from retort.recipes.graph_view import Array, GraphView, attribute

Floats = npt.NDArray[np.float32]
Edits = dict[str, Array]


@dataclass(frozen=True)
class _Surroundings:
    """Where a value comes from and who reads it."""

    view: GraphView
    producers: Mapping[str, NodeProto]
    readers: Mapping[str, list[NodeProto]]

    def read_once(self, name: str) -> bool:
        return len(self.readers.get(name, ())) == 1 and name not in self.view.outputs

    def vector(self, name: str, width: int) -> bool:
        """Tell whether a constant is one number a channel, which no other node reads."""
        view = self.view
        return view.is_constant(name) and view.shape(name) == (width,) and self.read_once(name)


def absorbing_edits(
    view: GraphView, name: str, scales: Floats, readers: frozenset[str]
) -> Edits | None:
    """Return the constants that make a value come out divided, or None where none can.

    Args:
        view: The graph.
        name: The value, ``[..., channels]``.
        scales: What each channel is divided by, float32 ``[channels]``.
        readers: The names of the nodes that will multiply it back; others must not read it.
    """
    around = _Surroundings(view, view.producers(), view.consumers())
    if name in view.outputs or any(n.name not in readers for n in around.readers.get(name, ())):
        return None
    return _edits(around, name, scales)


def _edits(around: _Surroundings, name: str, scales: Floats) -> Edits | None:
    node = around.producers.get(name)
    absorber = ABSORBERS.get(node.op_type) if node is not None else None
    if node is None or absorber is None:
        return None
    return absorber(around, node, name, scales)


def _further(around: _Surroundings, name: str, scales: Floats) -> Edits | None:
    """Return the edits of a value on the way up, which one node alone may read."""
    return _edits(around, name, scales) if around.read_once(name) else None


def _normalization(
    around: _Surroundings, node: NodeProto, name: str, scales: Floats
) -> Edits | None:
    first = 2 if node.op_type.startswith("Skip") else 1
    count = 1 if "Simplified" in node.op_type else 2
    vectors = [vector for vector in node.input[first : first + count] if vector]
    if name != node.output[0] or not all(around.vector(v, len(scales)) for v in vectors):
        return None
    return {vector: around.view.constant(vector) / scales for vector in vectors}


def _multiplication(
    around: _Surroundings, node: NodeProto, name: str, scales: Floats
) -> Edits | None:
    del name
    for factor in node.input:
        if around.vector(factor, len(scales)):
            return {factor: around.view.constant(factor) / scales}
    if any(around.view.is_constant(factor) for factor in node.input):
        return None
    return next(filter(None, (_further(around, one, scales) for one in node.input)), None)


def _addition(around: _Surroundings, node: NodeProto, name: str, scales: Floats) -> Edits | None:
    del name
    for constant, value in (node.input, node.input[::-1]):
        if around.vector(constant, len(scales)):
            above = _further(around, value, scales)
            return above and {**above, constant: around.view.constant(constant) / scales}
    return None


def _product(around: _Surroundings, node: NodeProto, name: str, scales: Floats) -> Edits | None:
    del name
    weight = node.input[1]
    if not (around.view.is_float_table(weight) and around.read_once(weight)):
        return None
    return {weight: around.view.constant(weight) / scales}


def _attention(around: _Surroundings, node: NodeProto, name: str, scales: Floats) -> Edits | None:
    plain = len(node.input) > 2 and not (len(node.input) > 3 and node.input[3])
    return _further(around, node.input[2], scales) if plain and name == node.output[0] else None


def _split(around: _Surroundings, node: NodeProto, name: str, scales: Floats) -> Edits | None:
    if attribute(node, "axis", 0) not in (-1, 2) or len(node.input) < 2:
        return None
    sizes = around.view.constant(node.input[1])
    at = list(node.output).index(name)
    if sizes[at] != len(scales):
        return None
    whole = np.ones(int(sizes.sum()), np.float32)
    start = int(sizes[:at].sum())
    whole[start : start + len(scales)] = scales
    return _further(around, node.input[0], whole)


Absorber = Callable[[_Surroundings, NodeProto, str, Floats], Edits | None]
ABSORBERS: Mapping[str, Absorber] = {
    "LayerNormalization": _normalization,
    "SkipLayerNormalization": _normalization,
    "SimplifiedLayerNormalization": _normalization,
    "SkipSimplifiedLayerNormalization": _normalization,
    "Mul": _multiplication,
    "Add": _addition,
    "MatMul": _product,
    "MultiHeadAttention": _attention,
    "Split": _split,
}
