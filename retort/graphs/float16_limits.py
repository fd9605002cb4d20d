"""What float16 cannot hold: integers above 2048, values above 65504, sums of squares."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from retort.graphs.onnx_file import graphs_of, nodes_of

LARGEST_HALF = 65504.0
LEAST_MASK = -8_000.0  # e to its power is 0, and several of them in one sum are still finite
INFINITE = 1e30  # stands for infinity: PyTorch masks with -3.4e38
HEAD_SCOPE = "retort_head"
INTEGERS = frozenset({TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64})
SUMS = frozenset(
    {"Pow", "ReduceL2", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare"}
)  # a square of 256 is too large, and a mean of squares is a norm's denominator
AFTER_SUMS = frozenset({"Add", "Div", "Reciprocal", "Sqrt"})
LIMITS = frozenset({"Clip", "Max", "Min"})
# Their floats are an attribute, which is fp32, or they have no float16 in ONNX.
WITHOUT_HALVES = frozenset(
    {
        "Bernoulli", "Constant", "DequantizeLinear", "DynamicQuantizeLinear", "EyeLike",
        "Multinomial", "QuantizeLinear", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "SequenceEmpty",
    }
)  # fmt: skip


def exact_nodes(graph: onnx.GraphProto, large: Collection[str] = ()) -> set[str]:
    """Return the nodes that stay in fp32, by their first outputs.

    They are what is rounded to an integer (buckets of relative positions), what goes into a sine
    or cosine (rotary position angles), norms' sums of squares, the head, what reads a weight that
    float16 cannot hold, and what makes or reads a large value.

    Args:
        graph: The fp32 graph.
        large: Names of values that may be too large.
    """
    nodes = list(nodes_of(graph))
    kept = {node.output[0] for node in nodes if _is_exact(node, graph)}
    kept |= _ahead(nodes) | _around_sums(nodes)
    beyond = {*large, *_large_weights(graph)}
    kept |= {node.output[0] for node in nodes if beyond & {*node.input, *node.output}}
    for node in nodes:
        if node.op_type in {"Loop", "Scan"}:
            kept |= {inner.output[0] for part in _bodies(node) for inner in nodes_of(part)}
    return kept


def soften_masks(model: onnx.ModelProto) -> None:
    """Replace the constants that stand for minus infinity by numbers that float16 holds.

    As it is, the sum of such a mask and a score, or of two masks, would be infinite, and a row of
    infinities has no softmax. Limits (Clip, Max) and the head keep theirs.
    """
    kept = {
        name
        for node in nodes_of(model.graph)
        if node.op_type in LIMITS or HEAD_SCOPE in node.name
        for name in node.input
    }
    for part in graphs_of(model.graph):
        for tensor in part.initializer:
            if tensor.name not in kept:
                _soften(tensor)
        for node in part.node:
            for attribute in node.attribute:
                if attribute.HasField("t") and not kept & set(node.output):
                    _soften(attribute.t)


def _soften(tensor: TensorProto) -> None:
    if tensor.data_type != TensorProto.FLOAT or uses_external_data(tensor):
        return
    values = numpy_helper.to_array(tensor)
    single = values.size == 1
    masks = (values < -LARGEST_HALF) if single else (values < -INFINITE)
    masks = masks & np.isfinite(values)
    if masks.any():
        softer = np.where(masks, np.float32(LEAST_MASK), values)
        tensor.CopyFrom(numpy_helper.from_array(softer, tensor.name))


def _is_exact(node: NodeProto, graph: onnx.GraphProto) -> bool:
    from onnxruntime.transformers.float16 import ALWAYS_FLOAT_INPUTS, DEFAULT_OP_BLOCK_LIST

    # The tracer gives an output a second name by an Identity outside the head's scope.
    outputs = {value.name for value in graph.output}
    if HEAD_SCOPE in node.name or (node.op_type == "Identity" and node.input[0] in outputs):
        return True
    operators = {*WITHOUT_HALVES, *DEFAULT_OP_BLOCK_LIST, *ALWAYS_FLOAT_INPUTS, "Loop", "Scan"}
    return node.op_type in operators


def _ahead(nodes: list[NodeProto]) -> set[str]:
    """Return all that positions are made of."""
    producers = {output: node for node in nodes for output in node.output}
    kept: set[str] = set()
    waiting = [node for node in nodes if _needs_exact_input(node)]
    while waiting:
        node = waiting.pop()
        if node.output[0] not in kept and node.op_type != "Shape":  # a shape is exact anyway
            kept.add(node.output[0])
            waiting.extend(producers[name] for name in node.input if name in producers)
    return kept


def _needs_exact_input(node: NodeProto) -> bool:
    if node.op_type in {"Sin", "Cos"}:
        return True
    return node.op_type == "Cast" and node.attribute[0].i in INTEGERS


def _around_sums(nodes: list[NodeProto]) -> set[str]:
    """Return sums of squares, and what makes a norm's denominator of them."""
    kept: set[str] = set()
    for node in nodes:
        if node.op_type in SUMS or (node.op_type in AFTER_SUMS and kept & set(node.input)):
            kept.add(node.output[0])
    return kept


def _large_weights(graph: onnx.GraphProto) -> Iterator[str]:
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
            if LARGEST_HALF < largest < INFINITE:
                yield tensor.name


def _bodies(node: NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
