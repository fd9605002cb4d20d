"""The precisions of n-bit weights: what each is made of, and which runtime reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx

from retort.graphs.byte_tables import quantize_tables
from retort.graphs.constant_weights import MICROSOFT_DOMAIN
from retort.graphs.float16 import convert_to_float16
from retort.graphs.magnitudes import large_values
from retort.graphs.n_bit import quantize_n_bit, quantize_nf4
from retort.graphs.onnx_file import nodes_of, save_graph

logger = logging.getLogger(__name__)

FUSED_WITH_WEIGHTS = frozenset({"Attention", "FusedMatMul", "GemmFastGelu", "QAttention"})
# Products are computed from the weights as they are, in fp32: accuracy_level is left unset. With 4
# activations are rounded to 8 bits, and each runtime before 1.19 would answer otherwise.
KINDS: Mapping[str, Callable[[onnx.ModelProto, int], int]] = {
    "Q8": lambda model, block_size: quantize_n_bit(model, 8, block_size),
    "Q4": lambda model, block_size: quantize_n_bit(model, 4, block_size),
    "Q4F16": lambda model, block_size: quantize_n_bit(model, 4, block_size),
    "BNB4": quantize_nf4,
}
RUNTIMES = {"Q8": "ONNX Runtime 1.23"}
OLDEST_RUNTIME = "ONNX Runtime 1.17"


def make_n_bit(source: Path, output: Path, precision: str, block_size: int) -> dict[str, Any]:
    """Write a graph with n-bit weights, and its embedding tables in 8 bits.

    Args:
        source: The fp32 graph; a fused one keeps the weights of its Attention operators in fp32.
        output: Where to write.
        precision: ``Q8``, ``Q4``, ``Q4F16`` or ``BNB4``.
        block_size: How many values share a scale.

    Returns:
        What was done, for the record.
    """
    halved = precision == "Q4F16"
    large = large_values(source, output.parent / "magnitudes") if halved else set()
    model = onnx.load(str(source))
    fused = sum(
        node.domain == MICROSOFT_DOMAIN and node.op_type in FUSED_WITH_WEIGHTS
        for node in nodes_of(model.graph)
    )
    if fused:
        logger.warning(
            "%s: fused operators keep their weights as they are (%d); take the portable graph",
            source.name,
            fused,
        )
    if halved:
        convert_to_float16(model, large)
    products = KINDS[precision](model, block_size)
    tables = quantize_tables(model, block_size)
    save_graph(model, output)
    return {
        "block_size": block_size,
        "products": products,
        "tables_of_8_bits": tables,
        "needs": RUNTIMES.get(precision, OLDEST_RUNTIME),
    }
