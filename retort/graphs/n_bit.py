"""Weights of 4 or 8 bits in blocks: a scale for every few values, activations as they are.

The operators are ONNX Runtime's ``MatMulNBits`` and ``MatMulBnb4`` (its ContribOperators.md gives
their layouts). Its own quantizers would write a matrix that layers share once for each of them,
and see none behind an Identity or a Transpose. NF4: Dettmers et al. 2023 (QLoRA).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper

from retort.graphs.constant_weights import (
    MICROSOFT_DOMAIN,
    Array,
    Weight,
    add_initializer,
    drop_unused,
    import_microsoft_operators,
    replace_products,
)

NF4_TYPE = 1  # MatMulBnb4 calls it so
# Quantiles of a normal distribution, as QLoRA's authors publish them.
NF4_VALUES = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
COLUMNS_AT_ONCE = 4096  # a multiple of every block size; bounds the memory


@dataclass(frozen=True)
class Packed:
    """A matrix ``[inputs, outputs]`` in few bits.

    Attributes:
        values: Uint8, several to a byte: ``[outputs, blocks, bytes]``, or flat for NF4.
        scales: Of the matrix's own type: ``[outputs, blocks]``, or flat for NF4.
        zero_points: Uint8 ``[outputs, bytes]``, several to a byte; None for NF4.
    """

    values: Array
    scales: Array
    zero_points: Array | None = None


Pack = Callable[[Array], Packed]


def quantize_n_bit(model: onnx.ModelProto, bits: int, block_size: int) -> int:
    """Store the constant matrices of a graph in 4 or 8 bits, each block from its least to largest.

    Args:
        model: The graph, in fp32 or float16; changed in place.
        bits: 4 or 8.
        block_size: How many inputs share a scale, a power of two from 16 to 256.

    Returns:
        How many products read such a matrix.
    """
    settings = {"bits": bits, "block_size": block_size}
    return _quantize(model, "MatMulNBits", settings, lambda v: pack_blocks(v, bits, block_size))


def quantize_nf4(model: onnx.ModelProto, block_size: int) -> int:
    """Store the constant matrices of a graph in NF4, bitsandbytes' 4 bits.

    Args:
        model: The graph, in fp32 or float16; changed in place.
        block_size: How many values share a scale.

    Returns:
        How many products read such a matrix.
    """
    settings = {"block_size": block_size, "quant_type": NF4_TYPE}
    return _quantize(model, "MatMulBnb4", settings, lambda v: pack_nf4(v, block_size))


def _quantize(
    model: onnx.ModelProto, operator: str, settings: Mapping[str, int], pack: Pack
) -> int:
    stored: dict[str, list[str]] = {}

    def multiply(node: NodeProto, weight: Weight) -> list[NodeProto]:
        if weight.name not in stored:
            stored[weight.name] = _store(model.graph, weight.name, pack(weight.values))
        inputs, outputs = weight.values.shape
        product = helper.make_node(
            operator,
            [node.input[0], *stored[weight.name]],
            node.output,
            name=node.name,
            domain=MICROSOFT_DOMAIN,
            K=inputs,
            N=outputs,
            **settings,
        )
        return [product]

    replaced = replace_products(model, multiply)
    if replaced:
        import_microsoft_operators(model)
        drop_unused(model.graph)
    return replaced


def _store(graph: onnx.GraphProto, name: str, packed: Packed) -> list[str]:
    parts = {"values": packed.values, "scales": packed.scales, "zero_points": packed.zero_points}
    return [
        add_initializer(graph, f"{name}_{part}", values)
        for part, values in parts.items()
        if values is not None
    ]


def pack_blocks(values: Array, bits: int, block_size: int) -> Packed:
    """Return a matrix ``[inputs, outputs]`` as ``MatMulNBits`` reads it."""
    parts = [_pack_columns(part, bits, block_size) for part in _columns(values)]
    return Packed(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.zero_points for part in parts if part.zero_points is not None]),
    )


def _pack_columns(values: Array, bits: int, block_size: int) -> Packed:
    inputs, outputs = values.shape
    padded = np.zeros((outputs, -(-inputs // block_size) * block_size), np.float32)
    padded[:, :inputs] = values.T
    blocks = padded.reshape(outputs, -1, block_size)
    least, largest = (np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0))
    top = 2**bits - 1
    scales = ((largest - least) / top).astype(values.dtype)
    scales[scales == 0] = 1
    wide = scales.astype(np.float32)
    zero_points = np.rint(-least / wide).clip(0, top)
    numbers = (np.rint(blocks / wide[..., None]) + zero_points[..., None]).clip(0, top)
    return Packed(_packed(numbers, bits), scales, _packed(zero_points, bits))


def _packed(numbers: Array, bits: int) -> Array:
    """Return numbers as bytes; of two in a byte the first has the lower half."""
    whole = numbers.astype(np.uint8)
    if bits == 8:
        return whole
    if whole.shape[-1] % 2:
        whole = np.concatenate([whole, np.zeros_like(whole[..., :1])], axis=-1)
    packed: Array = whole[..., 0::2] | (whole[..., 1::2] << 4)
    return packed


def pack_nf4(values: Array, block_size: int) -> Packed:
    """Return a matrix ``[inputs, outputs]`` as ``MatMulBnb4`` reads it: flat, output by output."""
    borders = (NF4_VALUES[1:] + NF4_VALUES[:-1]) / 2
    packed, scales = [], []
    for part in _columns(values):
        flat = part.T.astype(np.float32).ravel()
        count = flat.size
        blocks = np.pad(flat, (0, -count % block_size)).reshape(-1, block_size)
        largest = np.abs(blocks).max(-1).astype(values.dtype)
        largest[largest == 0] = 1
        shares = blocks / largest.astype(np.float32)[:, None]
        numbers = np.searchsorted(borders, shares.ravel()[:count]).astype(np.uint8)
        numbers = np.pad(numbers, (0, count % 2))
        packed.append((numbers[0::2] << 4) | numbers[1::2])
        scales.append(largest)
    return Packed(np.concatenate(packed), np.concatenate(scales))


def _columns(values: Array) -> Iterator[Array]:
    for start in range(0, values.shape[1], COLUMNS_AT_ONCE):
        yield values[:, start : start + COLUMNS_AT_ONCE]
