"""Options that say how graphs are fused and quantized, and the precisions there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from retort.arguments.option import OnOff, option

PRECISIONS = (
    "QInt8",
    "QUInt8",
    "Float16",
    "Q8",
    "Q4",
    "Q4F16",
    "BNB4",
    "QInt8Static",
    "QUInt8Static",
)
REFUSED_PRECISIONS = {
    "bfloat16": "ONNX Runtime has no MatMul, Add or Softmax in bfloat16 on a CPU; take Float16"
}


@dataclass(frozen=True, kw_only=True)
class OptimizeArguments:
    """How graphs are fused and quantized."""

    _argument_group_name: ClassVar[str] = "optimize and quantize"

    optimize: Literal[0, 1, 2, 99] = field(
        default=1,
        metadata=option(
            "Fusion level: 0 none; 1 portable fusions; 2 adds fusions for this execution provider; "
            "99 adds layouts for this very processor (do not ship such a file)."
        ),
    )
    quantize: list[str] = field(
        default_factory=list,
        metadata=option(
            f"Precisions to write beside fp32: {', '.join(PRECISIONS)}; "
            "several by commas or by repeating the option. QInt8, QUInt8: 8-bit products. Float16: "
            "half the size. Q8, Q4, BNB4 (NF4): weights of 8 or 4 bits, activations of 32; Q4F16: "
            "of 16. Q8 needs ONNX Runtime 1.23 or later, and is not what transformers.js calls q8: "
            "that is model_quantized.onnx, of QInt8 or QUInt8.",
            {"action": "extend", "metavar": "PRECISION"},
        ),
    )
    per_channel: bool = field(
        default=True,
        metadata=option("8-bit: one scale for each output channel of a weight, not one for all."),
    )
    reduce_range: bool | None = field(
        default=None,
        metadata=option(
            "8-bit: 7-bit weights, which never saturate 16 bits. Unset, signed weights are such "
            "that sums of two products fit 16 bits, which loses less; --no_reduce_range leaves "
            "them as they are, for processors with VNNI and ARM alone.",
            {
                "action": OnOff,
                "nargs": "?",
                "const": True,
                "aliases": ["--no_reduce_range", "--no-reduce-range"],
            },
        ),
    )
    target: Literal["auto", "avx2", "avx512_vnni", "arm64"] = field(
        default="auto",
        metadata=option(
            "Processor that will run the 8-bit files: auto is right on every one; avx512_vnni and "
            "arm64 never saturate at 16 bits, so that files for them are a little more exact."
        ),
    )
    recipe: Literal["auto", "plain", "accurate"] = field(
        default="auto",
        metadata=option(
            "8-bit: plain quantizes per channel, with ranges of each batch; accurate calibrates on "
            "texts, and is exact and slow to make; auto tries recipes in turn and keeps the first "
            "that has --min_fidelity."
        ),
    )
    min_fidelity: float | None = field(
        default=None,
        metadata=option(
            "Mean fidelity that a file must have, in the family's own measure, 0 to 1; below it "
            "nothing is written and the exit code is 3. Unset, 0.99 for what auto and accurate "
            "make, on texts that they were not calibrated with. 0 turns it off."
        ),
    )
    calibration_dataset: str | None = field(
        default=None,
        metadata=option(
            "Texts to calibrate 8 bits with: a file with one on each line, .jsonl, or a folder of "
            ".txt; every fifth is kept to measure on. Unset takes the texts that ship."
        ),
    )
    calibration_field: str = field(
        default="text", metadata=option("The key of the text in a .jsonl --calibration_dataset.")
    )
    calibration_samples: int = field(
        default=400, metadata=option("How many texts to calibrate with, at most.")
    )
    block_size: Literal[16, 32, 64, 128, 256] = field(
        default=32,
        metadata=option("n-bit weights and 8-bit tables: how many values share a scale."),
    )
    skip_shape_inference: bool = field(
        default=False,
        metadata=option(
            "Skip ONNX Runtime's symbolic shape inference, for graphs on which it fails; "
            "8-bit files are then made from the portable graph."
        ),
    )
