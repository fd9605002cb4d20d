"""Conversion to float16 that leaves in fp32 what float16 cannot hold: positions, squares, pooling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from retort.graphs.float_values import float_values
from retort.graphs.onnx_file import nodes_of
from retort.graphs.weights import Weights, graphs_of, subgraphs

INTEGERS = frozenset({TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64})
HEAD_SCOPE = "retort_head"
LARGEST, LEAST = 65504.0, 5.96e-8
SUMS = frozenset({"ReduceMean", "ReduceSum"})
AFTER_SUMS = SUMS | {"Add", "Clip", "Div", "Max", "Mul", "Reciprocal", "Sqrt"}
# What these take may be of any type, so that it needs no cast.
TYPELESS = frozenset({"Cast", "Shape", "Size"})


def convert_to_float16(model: onnx.ModelProto, weights: Weights) -> None:
    """Turn a graph into float16, with float32 inputs and outputs.

    Integers above 2048 and sums above 65504 do not exist in float16. So these stay in fp32: what
    is rounded to an integer (buckets of relative positions), what goes into a sine or cosine
    (rotary position angles), sums of squares (RMSNorm, L2 normalisation) and the sum that a
    norm is taken of, the pooling head, and operators that ONNX Runtime has in fp32 alone.

    Args:
        model: The fp32 graph, with subgraphs or without; changed in place.
        weights: Its weights.
    """
    floats = float_values(model)
    kept = {id(node) for node in fp32_nodes(model.graph)}
    _Halves(model, weights, floats, kept).convert()


def fp32_nodes(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that must stay in fp32, in the graph and in its subgraphs."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

    nodes = list(nodes_of(graph))
    alone = (n for n in nodes if HEAD_SCOPE in n.name or n.op_type in DEFAULT_OP_BLOCK_LIST)
    kept = {id(n): n for n in (*_exact(nodes), *_sums_of_squares(nodes), *alone)}
    return list(kept.values())


def _exact(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Yield all that positions are made of."""
    producers = {output: node for node in nodes for output in node.output}
    found: set[int] = set()
    ahead = [node for node in nodes if _needs_exact_input(node)]
    while ahead:
        node = ahead.pop()
        if id(node) in found or node.op_type == "Shape":  # a shape is exact anyway
            continue
        found.add(id(node))
        yield node
        inner = (value.name for part in subgraphs(node) for value in part.output)
        ahead.extend(producers[name] for name in (*node.input, *inner) if name in producers)


def _needs_exact_input(node: NodeProto) -> bool:
    if node.op_type in {"Sin", "Cos"}:
        return True
    return node.op_type == "Cast" and _attribute(node, "to") in INTEGERS


def _sums_of_squares(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Yield what makes the norms of vectors, and the sums that norms are taken of."""
    producers = {output: node for node in nodes for output in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for square in filter(_squares, nodes):
        sums = [n for n in readers.get(square.output[0], []) if n.op_type in SUMS]
        if not sums:
            continue
        yield square
        residual = producers.get(square.input[0])
        if residual is not None and residual.op_type == "Add":
            yield residual
        while sums:
            node = sums.pop()
            yield node
            values = [name for name in node.input if _varies(producers.get(name))]
            if node.op_type in AFTER_SUMS and (len(values) == 1 or node.op_type in SUMS):
                sums.extend(n for n in readers.get(node.output[0], []) if n.op_type in AFTER_SUMS)


def _varies(producer: NodeProto | None) -> bool:
    return producer is not None and producer.op_type != "Constant"


def _squares(node: NodeProto) -> bool:
    return node.op_type == "Pow" or (node.op_type == "Mul" and node.input[0] == node.input[1])


def _attribute(node: NodeProto, name: str) -> Any:
    return next((a.i for a in node.attribute if a.name == name), None)


class _Halves:
    """One conversion.

    Each float value has a home, the type of what makes it; what reads it in the other type gets a
    cast, once in each graph. A weight is stored in each type that it is read in.
    """

    def __init__(self, weights: Weights, floats: frozenset[str], kept: frozenset[int]) -> None:
        self._weights = weights
        self._floats = floats
        self._kept = kept
        self._half: set[str] = set()  # values whose home is float16

    def convert(self, graph: GraphProto, casts: Mapping[tuple[str, bool], str], scope: str) -> None:
        """Convert a graph and its subgraphs in place.

        Args:
            graph: The graph.
            casts: Names of values in another type than their home, of graphs around this one.
            scope: Ends the names of casts, which are not the same inside and outside.
        """
        here = _Graph(scope, dict(casts))
        for index, node in enumerate(graph.node):
            half = id(node) not in self._kept
            for number, inner in enumerate(subgraphs(node)):
                self.convert(inner, here.casts, f"{scope}_{index}_{number}")
                ...
