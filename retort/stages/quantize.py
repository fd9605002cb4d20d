"""Quantize: 4-bit, 8-bit and 16-bit variants of the fp32 graphs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.artifact import Artifact, graph_files
from retort.graphs.byte_products import ByteSettings, has_weights_inside, quantize_products
from retort.graphs.byte_tables import quantize_tables
from retort.graphs.external_data import settle_external_data
from retort.graphs.float16 import convert_to_float16
from retort.graphs.magnitudes import large_values
from retort.graphs.n_bit_file import KINDS, make_n_bit
from retort.graphs.onnx_file import (
    constant_names,
    infer_shapes,
    save_graph,
    summarize,
)
from retort.recipes.recipe import PLAIN
from retort.recipes.saturation import fit_pairs
from retort.talk import third_party_work

if TYPE_CHECKING:
    import onnx

    from retort.arguments import OptimizeArguments

QUANTIZED_OPERATORS = ["MatMul", "Attention", "Gather"]
BYTES = ("QInt8", "QUInt8", "QInt8Static", "QUInt8Static")
DEFAULT_FIDELITY = 0.99  # of what 8 bits promise


@dataclass(frozen=True)
class QuantizeSettings:
    """How one precision is made.

    Attributes:
        precision: ``QInt8`` or ``QUInt8`` weights with dynamic activations, ``Float16``, or weights
            of n bits: ``Q8``, ``Q4``, ``Q4F16``, ``BNB4``.
        target: ``auto`` (any processor), ``avx2``, ``avx512_vnni`` or ``arm64``.
        per_channel: One scale for each output channel of a weight.
        reduce_range: 7-bit weights.
        pairs: Signed weights such that sums of two products fit 16 bits.
        recipe: How 8-bit files are made: ``plain``, ``auto``, ``accurate`` or ``static``.
        min_fidelity: The mean fidelity that the recipe must have; 0 takes the first recipe.
        skip_shape_inference: Leave symbolic shape inference out.
        block_size: How many values of n bits share a scale.
        per_row: 8-bit activations have a scale for each token, which weights inside a subgraph
            need; else one for the whole batch.
    """

    precision: str
    target: str
    per_channel: bool
    reduce_range: bool
    skip_shape_inference: bool
    block_size: int = 32
    per_row: bool = False
    pairs: bool = False
    recipe: str = PLAIN
    min_fidelity: float = 0.0

    @property
    def searches(self) -> bool:
        """Whether recipes are tried on texts, which takes the reference."""
        return self.recipe != PLAIN


def quantize_settings(arguments: OptimizeArguments, precision: str) -> QuantizeSettings:
    """Return the settings that the arguments mean for a precision on the target processor.

    Without VNNI, the 8-bit multiply-add of x86 saturates at 16 bits: signed weights are such that
    it need not, unless the target is a processor that never does.
    """
    unsigned, static = precision.startswith("QU"), precision.endswith("Static")
    saturates = arguments.target in ("auto", "avx2") and not unsigned
    recipe = "static" if static else arguments.recipe if precision in BYTES else PLAIN
    wanted = arguments.min_fidelity
    return QuantizeSettings(
        precision,
        arguments.target,
        arguments.per_channel,
        bool(arguments.reduce_range),
        arguments.skip_shape_inference,
        arguments.block_size,
        pairs=saturates and arguments.reduce_range is None and precision in BYTES,
        recipe=recipe,
        min_fidelity=DEFAULT_FIDELITY if wanted is None else wanted,
    )


def choose_source(optimized: Artifact | None, portable: Artifact) -> Artifact:
    """Return the graph whose 8-bit file is the faster one on a CPU.

    That of the optimized graph, where attention is fused: its three projections are then quantized
    as one. Elsewhere that of the portable graph, which ONNX Runtime fuses by itself when it loads
    it. ``benchmarks/quantization_source.py`` measures both.
    """
    if optimized is None or "Attention" not in summarize(optimized.path).fused_operators:
        return portable
    return optimized


def quantize(artifact: Artifact, settings: QuantizeSettings, folder: Path) -> Artifact:
    """Make one precision out of a graph.

    Args:
        artifact: The portable or the optimized graph; not changed.
        settings: The precision and how it is made.
        folder: An empty folder of this stage's own.

    Raises:
        ConversionError: If the graph cannot be quantized.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True)
    with third_party_work(f"{settings.precision} of {artifact.path.name}"):
        output = folder / "model.onnx"
        made = MAKERS[settings.precision](artifact.path, output, settings)
    settle_external_data(output)
    details = {"precision": settings.precision, "from": source_name(artifact), **made}
    result = artifact.after(output, "quantize", details, time.perf_counter() - started)
    return result.with_precision(settings.precision)


def source_name(artifact: Artifact) -> str:
    """Return which graph a precision is made from, as the record tells it."""
    return "portable graph" if artifact.steps[-1].name == "export" else "optimized graph"


def _quantize_8_bit(source: Path, output: Path, settings: QuantizeSettings) -> dict[str, Any]:
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.quant_utils import add_infer_metadata
    from optimum.onnxruntime import ORTQuantizer, QuantizationConfig
    from optimum.onnxruntime.configuration import QuantFormat, QuantizationMode

    model = onnx.load(str(source))
    if settings.per_row or has_weights_inside(model):
        return _quantize_by_rows(model, output, settings)
    excluded = _name_activation_matmuls(model)
    if not settings.skip_shape_inference:
        # On a fused graph the quantizer cannot tell the weights' types without shapes.
        model = infer_shapes(model)
        add_infer_metadata(model)  # or else the quantizer infers once more, on copies
    prepared = output.parent / "prepared" / output.name
    prepared.parent.mkdir()
    save_graph(model, prepared)
    del model
    configuration = QuantizationConfig(
        is_static=False,
        format=QuantFormat.QOperator,
        mode=QuantizationMode.IntegerOps,
        activations_dtype=QuantType.QUInt8,
        weights_dtype=QuantType.QInt8 if settings.precision == "QInt8" else QuantType.QUInt8,
        weights_symmetric=True,
        per_channel=settings.per_channel,
        reduce_range=settings.reduce_range,
        nodes_to_exclude=excluded,
        operators_to_quantize=list(QUANTIZED_OPERATORS),
    )
    quantizer = ORTQuantizer(prepared)
    quantizer.quantize(
        configuration,
        save_dir=output.parent,
        file_suffix="",
        use_external_data_format=len(graph_files(prepared)) > 1,
    )
    if settings.pairs:
        _fit_pairs(prepared, output)
    shutil.rmtree(prepared.parent)
    return {
        "target": settings.target,
        "pairs_fit_16_bits": settings.pairs,
        "per_channel": settings.per_channel,
        "reduce_range": settings.reduce_range,
        "operators": list(QUANTIZED_OPERATORS),
        "excluded_activation_matmuls": len(excluded),
    }


def _fit_pairs(source: Path, output: Path) -> None:
    import onnx
    from onnx import numpy_helper

    tensors = onnx.load(str(source)).graph.initializer
    weights = {t.name: numpy_helper.to_array(t) for t in tensors if len(t.dims) == 2}
    model = onnx.load(str(output))
    fit_pairs(model, weights)
    for data in graph_files(output)[1:]:
        data.unlink()
    save_graph(model, output)


def _quantize_by_rows(
    model: onnx.ModelProto, output: Path, settings: QuantizeSettings
) -> dict[str, Any]:
    signed = settings.precision == "QInt8"
    reduce_range = settings.reduce_range or settings.pairs
    kind = ByteSettings(signed, settings.per_channel, reduce_range)
    products = quantize_products(model, kind)
    tables = quantize_tables(model, settings.block_size)
    save_graph(model, output)
    return {
        "target": settings.target,
        "per_channel": settings.per_channel,
        "reduce_range": settings.reduce_range,
        "activations": "a scale for each token",
        "products": products,
        "tables_of_8_bits": tables,
    }


def _name_activation_matmuls(model: onnx.ModelProto) -> list[str]:
    # Attention's products of two activations lose accuracy in 8 bits and gain no speed.
    constants = constant_names(model.graph)
    names = []
    for index, node in enumerate(model.graph.node):
        if node.op_type == "MatMul" and not constants & set(node.input):
            node.name = node.name or f"MatMul_of_activations_{index}"
            names.append(node.name)
    return names


def _convert_to_float16(source: Path, output: Path, settings: QuantizeSettings) -> dict[str, Any]:
    import onnx

    large = large_values(source, output.parent / "magnitudes")
    model = onnx.load(str(source))
    convert_to_float16(model, large)
    save_graph(model, output)
    return {
        "large_values": len(large),
        "inputs_and_outputs": "float32",
        "kept_in_float32": "positions, sums and pooling",
    }


def _quantize_n_bit(source: Path, output: Path, settings: QuantizeSettings) -> dict[str, Any]:
    return make_n_bit(source, output, settings.precision, settings.block_size)


MAKERS: Mapping[str, Callable[[Path, Path, QuantizeSettings], Mapping[str, Any]]] = {
    **dict.fromkeys(("QInt8", "QUInt8"), _quantize_8_bit),  # Static ones are searched for
    "Float16": _convert_to_float16,
    **dict.fromkeys(KINDS, _quantize_n_bit),
}
