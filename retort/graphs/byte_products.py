"""8-bit products with a scale for each row of activations, in subgraphs too.

ONNX Runtime's own dynamic quantizer follows no weight into a subgraph, and its one scale for all
activations of a batch lets a few large ones, as vision towers and language models have them, take
the bits of all others. Here each row, that is each token, has a scale of its own, so no vector
depends on what else is in its batch (Yao et al. 2022, ZeroQuant). Standard operators alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from retort.graphs.constant_weights import (
    ConstantWeights,
    Weight,
    add_initializer,
    drop_unused,
    replace_products,
)
from retort.graphs.onnx_file import graphs_of

LARGEST = 127
MIDDLE = 128  # the unsigned byte that stands for zero
LEAST_ACTIVATION = 1e-9  # a row of zeros has a scale too
COLUMNS_AT_ONCE = 4096


@dataclass(frozen=True)
class ByteSettings:
    """How weights become bytes.

    Attributes:
        signed: Signed bytes, else unsigned ones.
        per_channel: One scale for each output channel, not one for all.
        reduce_range: 7 bits.
    """

    signed: bool
    per_channel: bool
    reduce_range: bool


def has_weights_inside(model: onnx.ModelProto) -> bool:
    """Tell whether a subgraph multiplies by a constant matrix of the outer graph."""
    weights = ConstantWeights(model.graph)
    _, *subgraphs = graphs_of(model.graph)
    return any(
        weights.find(node.input[1]) is not None
        for subgraph in subgraphs
        for node in subgraph.node
        if node.op_type == "MatMul"
    )


def quantize_products(model: onnx.ModelProto, settings: ByteSettings) -> int:
    """Multiply by constant matrices in 8 bits; products of two activations stay as they are.

    Args:
        model: The fp32 graph; changed in place.
        settings: How weights become bytes.

    Returns:
        How many products are made in 8 bits.
    """
    constants = _add_constants(model.graph)
    stored: dict[str, list[str]] = {}
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    axes_as_input = opsets.get("", opsets.get("ai.onnx", 0)) >= 18

    def multiply(node: NodeProto, weight: Weight) -> list[NodeProto]:
        if weight.name not in stored:
            stored[weight.name] = _store(model.graph, weight, settings)
        return _product(node, stored[weight.name], constants, axes_as_input=axes_as_input)

    replaced = replace_products(model, multiply)
    drop_unused(model.graph)
    return replaced


def _add_constants(graph: onnx.GraphProto) -> dict[str, str]:
    values = {
        "last_axis": np.array([-1], np.int64),
        "least": np.float32(LEAST_ACTIVATION),
        "largest": np.float32(LARGEST),
        "one": np.float32(1),
        "middle": np.uint8(MIDDLE),
    }
    return {
        key: add_initializer(graph, f"byte_products_{key}", np.asarray(value))
        for key, value in values.items()
    }


def _store(graph: onnx.GraphProto, weight: Weight, settings: ByteSettings) -> list[str]:
    """Add a matrix's bytes, its scales ``[outputs]`` or one scale, and its zero to the graph."""
    values = weight.values
    largest = LARGEST // 2 if settings.reduce_range else LARGEST
    scales = np.maximum(values.max(0), -values.min(0)).astype(np.float32) / largest
    if not settings.per_channel:
        scales = np.full_like(scales, scales.max())
    scales[scales == 0] = 1
    numbers = np.empty(values.shape, np.int8 if settings.signed else np.uint8)
    shift = 0 if settings.signed else MIDDLE
    for start in range(0, values.shape[1], COLUMNS_AT_ONCE):
        part = (slice(None), slice(start, start + COLUMNS_AT_ONCE))
        numbers[part] = np.rint(values[part] / scales[part[1]]) + shift
    stored_scales = scales if settings.per_channel else scales[:1]
    return [
        add_initializer(graph, f"{weight.name}_bytes", numbers),
        # Of the activations' scale only their largest is known; 127 of it is divided here.
        add_initializer(graph, f"{weight.name}_scales", stored_scales / np.float32(LARGEST)),
        # Each its own: ONNX Runtime fails to load a graph whose matrices share one.
        add_initializer(graph, f"{weight.name}_zero", np.full((), shift, numbers.dtype)),
    ]


def _product(
    node: NodeProto,
    matrix: Sequence[str],
    constants: Mapping[str, str],
    *,
    axes_as_input: bool,
) -> list[NodeProto]:
    """Return ``activation @ matrix``; ONNX Runtime merges equal nodes of one activation itself."""
    numbers, scales, zero = matrix
    activation, output = node.input[0], node.output[0]
    made: list[NodeProto] = []

    def value(operator: str, *inputs: str, result: str = "", **attributes: int | list[int]) -> str:
        name = result or f"{output}_{len(made)}_{operator.lower()}"
        label = node.name if result else f"{node.name}_{len(made)}_{operator}"
        made.append(helper.make_node(operator, inputs, [name], name=label, **attributes))
        return name

    sizes = value("Abs", activation)
    if axes_as_input:
        largest = value("ReduceMax", sizes, constants["last_axis"], keepdims=1)
    else:
        largest = value("ReduceMax", sizes, axes=[-1], keepdims=1)
    largest = value("Max", largest, constants["least"])
    factor = value("Div", constants["largest"], largest)
    shares = value("Mul", activation, factor)
    rounded = value("QuantizeLinear", shares, constants["one"], constants["middle"])
    product = value("MatMulInteger", rounded, numbers, constants["middle"], zero)
    wide = value("Cast", product, to=TensorProto.FLOAT)
    value("Mul", value("Mul", wide, scales), largest, result=output)
    return made
