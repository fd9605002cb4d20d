"""Every option of a conversion, declared once; importing this imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from retort.errors import InputError

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
OPSETS = range(14, 21)  # those that Optimum's tracing exporter serves with today's attention
Layout = Literal["onnx", "root", "both"]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


class OnOff(argparse.Action):
    """An option that is unset by default: ``--name`` turns it on, ``--no_name`` off."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store True, False, or the value that was written."""
        off = (option_string or "").startswith("--no")
        setattr(namespace, self.dest, not values if off else values)


def option(help_text: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return field metadata as ``HfArgumentParser`` reads it, with settings of ``argparse``."""
    return {"help": help_text.replace("%", "%%"), **(settings or {})}


def _split(items: Sequence[str]) -> list[str]:
    """Return the names in values that may hold several, separated by commas."""
    return [name.strip() for item in items for name in item.split(",") if name.strip()]


@dataclass(frozen=True, kw_only=True)
class SourceArguments:
    """Where the checkpoint comes from."""

    _argument_group_name: ClassVar[str] = "source"

    model_id: str = field(
        metadata=option("Hugging Face id (org/name) or local folder of the checkpoint to convert.")
    )
    revision: str | None = field(
        default=None,
        metadata=option("Branch, tag or commit on the Hub; the default branch if unset."),
    )
    token: str | None = field(
        default=None,
        metadata=option("Hub access token; HF_TOKEN or the stored login is used if unset."),
    )
    cache_dir: str | None = field(
        default=None, metadata=option("Folder for Hub downloads; huggingface_hub's own if unset.")
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=option("Run Python code that the checkpoint brings. Read that code first."),
    )
    allow_pickle: bool = field(
        default=False,
        metadata=option(
            "Accept pickle weights (pytorch_model.bin) where there are no safetensors; "
            "they are loaded with weights_only=True."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """What the graph should be."""

    _argument_group_name: ClassVar[str] = "export"

    task: str = field(
        default="auto",
        metadata=option("Optimum task or synonym of it; auto derives it from the checkpoint."),
    )
    family: str = field(
        default="auto",
        metadata=option(
            "Model family, a file name in onnx_configs/; name one when a checkpoint could be two."
        ),
    )
    pooling: Pooling | None = field(
        default=None,
        metadata=option(
            "Adds a sentence_embedding output, not normalised, to a checkpoint that has no "
            "modules.json."
        ),
    )
    splade_outputs: list[str] = field(
        default_factory=list,
        metadata=option(
            "splade: the graph's outputs in their order, of logits, output_idx, output_weights, "
            "sparse_vector, by commas or by repeating the option; unset takes all four.",
            {"action": "extend", "metavar": "OUTPUT"},
        ),
    )
    visual_variant: Literal["combined", "text", "image", "all"] = field(
        default="combined",
        metadata=option(
            "ColPali and ColQwen2: combined takes text, images and rows of both; text takes no "
            "images; image is combined without an If; all writes the three."
        ),
    )
    opset: int | None = field(
        default=None,
        metadata=option("ONNX opset, 14 to 20; unset takes the architecture's, usually 18."),
    )
    device: str = field(default="cpu", metadata=option("Torch device to trace on: cpu or cuda."))


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
        default=256, metadata=option("How many texts to calibrate with, at most.")
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


@dataclass(frozen=True, kw_only=True)
class ValidateArguments:
    """How the result is checked."""

    _argument_group_name: ClassVar[str] = "validate"

    skip_validation: bool = field(
        default=False,
        metadata=option("Only check that the files load; the folder then says so."),
    )
    verify: bool = field(
        default=False,
        metadata=option(
            "Run sample texts through the finished files and print what they answer, with the "
            "PyTorch model's answer where it differs."
        ),
    )
    verify_text: list[str] = field(
        default_factory=list,
        metadata=option(
            "Text for --verify, which it turns on; repeatable; unset takes the checkpoint's "
            "verify_texts.txt.",
            {"action": "extend", "metavar": "TEXT"},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class OutputArguments:
    """Where the result goes and what is said on the way."""

    _argument_group_name: ClassVar[str] = "output"

    output_parent_dir: str = field(
        default="./models/",
        metadata=option("The result is written to a folder below this one, named after the model."),
    )
    file_naming: Literal["transformers.js", "opt_level"] = field(
        default="transformers.js",
        metadata=option(
            "transformers.js: model_quantized.onnx and so on; opt_level: model_opt1_QInt8.onnx."
        ),
    )
    output_dir: str | None = field(
        default=None,
        metadata=option("The result is exactly this folder; overrides --output_parent_dir."),
    )
    layout: Layout | None = field(
        default=None,
        metadata=option(
            "Where graphs stand: onnx (the folder onnx/), root, or both (hard links in the root); "
            "unset takes the family's, onnx for all but colbert."
        ),
    )
    force: bool = field(default=False, metadata=option("Replace an existing output folder."))
    dry_run: bool = field(
        default=False, metadata=option("Print the plan as JSON and stop; no weights are loaded.")
    )
    quiet: bool = field(default=False, metadata=option("Say nothing but warnings and errors."))
    verbose: bool = field(
        default=False, metadata=option("Say more; print a traceback with an error.")
    )
    json: bool = field(
        default=False, metadata=option("Print one machine-readable result line on stdout.")
    )


@dataclass(frozen=True, kw_only=True)
class PublishArguments:
    """Where the finished folder is uploaded to, if anywhere."""

    _argument_group_name: ClassVar[str] = "publish"

    push_to_hub: str | None = field(
        default=None,
        metadata=option(
            "Upload the finished folder to this repository of the Hub (org/name), in one commit; "
            "it is created if need be.",
            {"metavar": "REPO"},
        ),
    )
    private: bool = field(
        default=False, metadata=option("Create the repository of --push_to_hub as private.")
    )
    push_unvalidated: bool = field(
        default=False, metadata=option("Upload even what --skip_validation left unmeasured.")
    )


GROUPS = (
    SourceArguments,
    ExportArguments,
    OptimizeArguments,
    ValidateArguments,
    OutputArguments,
    PublishArguments,
)


@dataclass(frozen=True, kw_only=True)
class ConversionArguments(
    PublishArguments,
    OutputArguments,
    ValidateArguments,
    OptimizeArguments,
    ExportArguments,
    SourceArguments,
):
    """All options of one conversion; each stage is typed to the group it reads."""

    def __post_init__(self) -> None:
        """Split comma-separated precisions, and refuse unknown ones and opsets out of range.

        Raises:
            InputError: If a precision is not one of ``PRECISIONS``, or an opset not of ``OPSETS``.
        """
        object.__setattr__(self, "verify", self.verify or bool(self.verify_text))
        if self.opset is not None and self.opset not in OPSETS:
            raise InputError(
                f"--opset {self.opset}: the exporter serves {OPSETS[0]} to {OPSETS[-1]}; choose "
                "one of those"
            )
        if not 0 <= (self.min_fidelity or 0) <= 1:
            raise InputError(f"--min_fidelity {self.min_fidelity:g}: give a number from 0 to 1")
        if self.calibration_samples < 1:
            raise InputError(f"--calibration_samples {self.calibration_samples}: give 1 or more")
        object.__setattr__(self, "splade_outputs", _split(self.splade_outputs))
        names = _split(self.quantize)
        by_lower = {name.lower(): name for name in PRECISIONS}
        for name in names:
            if name.lower() in REFUSED_PRECISIONS:
                raise InputError(f"--quantize {name}: {REFUSED_PRECISIONS[name.lower()]}")
            if name.lower() not in by_lower:
                raise InputError(
                    f"--quantize {name}: unknown precision; choose from {', '.join(PRECISIONS)}"
                )
        chosen = dict.fromkeys(by_lower[name.lower()] for name in names)
        object.__setattr__(self, "quantize", list(chosen))
