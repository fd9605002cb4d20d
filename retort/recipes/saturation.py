"""Signed weights that a library rounded, made safe for processors that saturate at 16 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from retort.recipes.rounding import channel_scales, round_nearest

READERS = frozenset({"MatMulInteger", "QAttention"})  # their second input is the weight
QUANTIZED, SCALE = "_quantized", "_scale"


def fit_pairs(model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[np.float32]]) -> int:
    """Round the signed weights of a graph once more, so that sums of two products fit 16 bits.

    Args:
        model: What ``ORTQuantizer`` made; changed.
        weights: The weights it was made from, by their names.

    Returns:
        How many weights were rounded again.
    """
    nodes = [node for node in model.graph.node if node.op_type in READERS]
    read = {node.input[1] for node in nodes}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    done = 0
    for name in sorted(read):
        weight = weights.get(name.removesuffix(QUANTIZED))
        tensor = tensors.get(name)
        if weight is None or tensor is None or tensor.data_type != onnx.TensorProto.INT8:
            continue
        rounded = numpy_helper.to_array(tensor)
        scale = tensors[f"{name.removesuffix(QUANTIZED)}{SCALE}"]
        scales = numpy_helper.to_array(scale)
        weight = _oriented(weight, rounded * scales)
        if scales.size == weight.shape[1]:
            scales = channel_scales(weight, np.ones(len(weight), np.float32), pairs=True)
            scale.CopyFrom(numpy_helper.from_array(scales, scale.name))
        rounded = round_nearest(weight, scales, pairs=True)
        tensor.CopyFrom(numpy_helper.from_array(rounded, name))
        done += 1
    return done


def _oriented(
    weight: npt.NDArray[np.float32], rough: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the weight as the quantizer wrote it, which is transposed where a Gemm read it."""
    fitting = [one for one in (weight, weight.T) if one.shape == rough.shape]
    return min(fitting, key=lambda one: float(np.abs(one - rough).sum()))
