"""Conversion to float16 that leaves in fp32 what float16 cannot hold: positions and pooling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import onnx
from onnx import NodeProto, TensorProto

from retort.graphs.onnx_file import nodes_of

INTEGERS = frozenset({TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64})
HEAD_SCOPE = "retort_head"
NARROWING_CAST = "_cast_to_fp16_node"  # how the converter names the cast after an fp32 node


def convert_to_float16(model: onnx.ModelProto, *, types_known: bool) -> onnx.ModelProto:
    """Return the graph in float16, with float32 inputs and outputs.

    Integers above 2048 and sums above 65504 do not exist in float16. So these stay in fp32: what
    is rounded to an integer (buckets of relative positions), what goes into a sine or cosine
    (rotary position angles), and the pooling head.

    Args:
        model: The fp32 graph; changed.
        types_known: Whether the graph carries the types of its values already, as fused operators
            need; otherwise ONNX's own inference finds what it can.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    blocked = _name_nodes(model.graph.node, fp32_nodes(model.graph))
    # OnnxModel's method of this name also merges casts, and loses an int64 to float32 on the way.
    half = convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=types_known, node_block_list=blocked
    )
    _tidy_casts(half.graph)
    del half.graph.value_info[:]
    OnnxModel(half).topological_sort()
    return half


def fp32_nodes(graph: onnx.GraphProto) -> list[NodeProto]:
    """Return the nodes that must stay in fp32: the head, and all that positions are made of."""
    producers = {output: node for node in graph.node for output in node.output}
    # The tracer gives an output a second name by an Identity outside the head's scope.
    outputs = {value.name for value in graph.output}
    kept = {
        id(node): node
        for node in graph.node
        if HEAD_SCOPE in node.name or (node.op_type == "Identity" and node.input[0] in outputs)
    }
    ahead = [node for node in graph.node if _needs_exact_input(node)]
    while ahead:
        node = ahead.pop()
        if id(node) not in kept and node.op_type != "Shape":  # a shape is exact anyway
            kept[id(node)] = node
            ahead.extend(producers[name] for name in node.input if name in producers)
    return list(kept.values())


def _needs_exact_input(node: NodeProto) -> bool:
    if node.op_type in {"Sin", "Cos"}:
        return True
    return node.op_type == "Cast" and _attribute(node, "to") in INTEGERS


def _attribute(node: NodeProto, name: str) -> Any:
    return next((a.i for a in node.attribute if a.name == name), None)


def _name_nodes(nodes: Iterable[NodeProto], wanted: Iterable[NodeProto]) -> list[str]:
    # The converter's block list goes by name, and ONNX does not require names.
    for index, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}_unnamed_{index}"
    return [node.name for node in wanted]


def _tidy_casts(graph: onnx.GraphProto) -> None:
    """Undo what the converter does between two fp32 nodes: a cast to float16 and back.

    It also writes one cast for each consumer under one name, which no runtime loads.
    """
    nodes = list({node.output[0]: node for node in reversed(graph.node)}.values())[::-1]
    producers = {output: node for node in nodes for output in node.output}
    consumers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in node.input:
            consumers[name].append(node)
    for node in nodes:
        narrowed = producers.get(node.input[0]) if _is_cast(node, TensorProto.FLOAT) else None
        if narrowed is not None and narrowed.name.endswith(NARROWING_CAST):
            for consumer in consumers[node.output[0]]:
                _replace_input(consumer, node.output[0], narrowed.input[0])
            node.input[0] = narrowed.input[0]
    _replace_nodes(graph, nodes)
    used = {value.name for value in graph.output}
    used |= {name for node in nodes_of(graph) for name in node.input}
    _replace_nodes(graph, [n for n in graph.node if n.op_type != "Cast" or used & set(n.output)])


def _replace_nodes(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def _is_cast(node: NodeProto, to: int) -> bool:
    return node.op_type == "Cast" and _attribute(node, "to") == to


def _replace_input(node: NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
