"""Duplicates of a value's channels, made by duplicate columns of the weights it comes from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from retort.recipes.graph_view import Array, GraphView

ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Clip", "Div", "Elu", "Erf", "FastGelu", "Gelu", "HardSwish",
        "LeakyRelu", "Max", "Min", "Mul", "Neg", "Pow", "QuickGelu", "Relu", "Sigmoid", "Softplus",
        "Sqrt", "Sub", "Tanh",
    }
)  # fmt: skip


def duplicating_edits(
    view: GraphView, name: str, index: npt.NDArray[np.int64], readers: frozenset[str]
) -> dict[str, Array] | None:
    """Return the constants that make a value come out with other channels, or None.

    Between the value and the products it comes from there may be nothing but element-wise
    operators, and nothing else may read what lies between (Zhao et al. 2019, arXiv:1901.09504).

    Args:
        view: The graph.
        name: The value, ``[..., channels]``.
        index: The channel that each of the new channels repeats, int64 ``[new channels]``.
        readers: The names of the nodes that will read the new channels.
    """
    region, constants = _region(view, name, int(index.max()) + 1)
    if not constants:
        return None
    inside = {node.name for node in region} | readers
    consumers = view.consumers()
    values = {output for node in region for output in node.output}
    for value in (*values, *constants):
        if value in view.outputs or any(node.name not in inside for node in consumers[value]):
            return None
    return {constant: np.take(view.constant(constant), index, axis=-1) for constant in constants}


def _region(view: GraphView, name: str, width: int) -> tuple[list[NodeProto], set[str]]:
    """Return the nodes a value is made of from its products on, and their constants by channel.

    There are none where the value is made in any other way.
    """
    producers = view.producers()
    region: dict[str, NodeProto] = {}
    constants: set[str] = set()
    waiting = [name]
    while waiting:
        value = waiting.pop()
        node = producers.get(value)
        if view.is_constant(value):
            constants.add(value)
        elif node is None or node.op_type not in (*ELEMENTWISE, "MatMul"):
            return [], set()
        elif node.name not in region:
            region[node.name] = node
            # Of a product, the activations have other channels.
            inputs = node.input[1:] if node.op_type == "MatMul" else node.input
            waiting.extend(one for one in inputs if one)
    by_channel = {one for one in constants if int(np.prod(view.shape(one))) > 1}
    if all(_has_width(view, one, width) for one in by_channel):
        return list(region.values()), by_channel
    return [], set()


def _has_width(view: GraphView, name: str, width: int) -> bool:
    shape = view.shape(name)
    return shape == (width,) or (view.is_float_table(name) and shape[1] == width)
