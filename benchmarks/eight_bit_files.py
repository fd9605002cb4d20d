"""The 8-bit files that a benchmark measures: made by recipes, or given by hand.

Each recipe runs in a process of its own, as a user would run it, so that its time and memory are
known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conversion import CONVERT, Figures, run_child
from onnxruntime.quantization import QuantType, quantize_dynamic

from retort.artifact import graph_bytes
from retort.talk import third_party_quiet

PORTABLE, OPTIMIZED = "onnx/model.onnx", "onnx/model_opt1.onnx"
EIGHT_BITS = "onnx/model_quantized.onnx"
FP32, PER_TENSOR = "fp32", "per tensor"


@dataclass(frozen=True)
class GraphFile:
    """One file to measure.

    Attributes:
        name: What it is called in the tables: its recipe, or its own name.
        path: The ``.onnx`` file.
        cost: What its conversion took; None where the benchmark did not convert it.
    """

    name: str
    path: Path
    cost: Figures | None = None

    @property
    def megabytes(self) -> float:
        """Its size in millions of bytes, external data included."""
        return graph_bytes(self.path) / 1e6


@dataclass(frozen=True)
class Files:
    """All files of one checkpoint that are measured.

    Attributes:
        folder: A converted folder, with the tokenizer and whatever else the runtime reads.
        original: The portable fp32 graph in it.
        others: The further graphs in it: the optimized one, and other precisions.
        eight_bits: The files of the recipes, those given by hand, and the peers' default.
    """

    folder: Path
    original: GraphFile
    others: Sequence[GraphFile]
    eight_bits: Sequence[GraphFile]


def add_eight_bit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which 8-bit files are measured, and how."""
    parser.add_argument(
        "--recipes",
        help="recipes of convert.py to make and measure, by commas; QInt8 unless one says "
        "another precision, as in QUInt8:plain (plain,auto; none where --files are given). Speeds "
        "are compared with the first",
    )
    parser.add_argument(
        "--files", type=_graph, nargs="+", default=[], metavar="ONNX",
        help="8-bit files of the same checkpoint, made by anything, to measure too",
    )  # fmt: skip
    parser.add_argument("--min_fidelity", type=float, help="passed on to convert.py")
    parser.add_argument("--target", help="passed on to convert.py: auto, avx2, avx512_vnni, arm64")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of timing; 0: none (8)")
    parser.add_argument(
        "--exact", action="store_true",
        help="measure once more with products that do not saturate at 16 bits, which is what "
        "processors with VNNI and ARM compute; makes a difference only where there is no VNNI",
    )  # fmt: skip


def fidelity_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark that makes a checkpoint to measure.

    Args:
        description: The benchmark's docstring, printed as it stands.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="where to keep the model, or one kept there"
    )
    add_eight_bit_options(parser)
    return parser


def convert_in_child(checkpoint: Path, output: Path, options: Sequence[str] = ()) -> Figures:
    """Convert a checkpoint to the folder ``output``, validation left out; return what it took."""
    print(f"converting: {' '.join(options)}", file=sys.stderr)
    where = ["--model_id", str(checkpoint), "--output_dir", str(output), "--skip_validation"]
    command = [sys.executable, str(CONVERT), *where, *options]
    return run_child(command, output.with_name(f"{output.name}.log"))


def make_files(
    options: argparse.Namespace,
    checkpoint: Path,
    scratch: Path,
    *,
    family: str = "auto",
    beside: Sequence[str] = (),
    dataset: Path | None = None,
) -> Files:
    """Convert a checkpoint to fp32 and with each recipe that the options name.

    Args:
        options: Those of :func:`add_eight_bit_options`.
        checkpoint: The checkpoint to convert.
        scratch: The folder to convert into.
        family: Its family.
        beside: Precisions to make beside fp32, other than the recipes' 8 bits.
        dataset: Texts for the recipes to be tried on; None for those that ship.
    """
    folder = scratch / FP32
    chosen = ["--family", family]
    convert_in_child(checkpoint, folder, [*chosen, *_precisions(beside)])
    original = GraphFile(FP32, folder / PORTABLE)
    others = [GraphFile(path.stem, path) for path in sorted(original.path.parent.glob("*.onnx"))]
    passed = [*chosen, *(["--target", options.target] if options.target else [])]
    if dataset is not None:
        passed += ["--calibration_dataset", str(dataset)]
    least = options.min_fidelity
    made = [_converted(entry, checkpoint, scratch, passed, least) for entry in _entries(options)]
    given = [GraphFile(str(path), path) for path in options.files]
    per_tensor = per_tensor_file(original.path, scratch)
    return Files(
        folder,
        original,
        [file for file in others if file.path != original.path],
        [*made, *given, per_tensor],
    )


def per_tensor_file(portable: Path, scratch: Path) -> GraphFile:
    """Quantize as the peers do by default: one scale for each weight, and every MatMul."""
    path = scratch / "per_tensor.onnx"
    with third_party_quiet():
        quantize_dynamic(portable, path, weight_type=QuantType.QInt8)
    return GraphFile(PER_TENSOR, path)


def _graph(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is not there")
    return Path(text)


def _converted(
    entry: str, checkpoint: Path, scratch: Path, passed: Sequence[str], least: float | None
) -> GraphFile:
    precision, _, recipe = entry.rpartition(":")
    folder = scratch / entry.replace(":", "-")
    asked = [*_precisions([precision or "QInt8"]), "--recipe", recipe]
    # What is not searched for is measured by validation alone, which is left out here.
    if least is not None and recipe != "plain":
        asked += ["--min_fidelity", str(least)]
    cost = convert_in_child(checkpoint, folder, [*passed, *asked])
    return GraphFile(entry, folder / EIGHT_BITS, cost)


def _entries(options: argparse.Namespace) -> list[str]:
    said = options.recipes or ("" if options.files else "plain,auto")
    return [entry for entry in said.split(",") if entry]


def _precisions(names: Sequence[str]) -> list[str]:
    return ["--quantize", ",".join(names)] if names else []
