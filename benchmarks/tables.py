"""Figures as Markdown tables, with the bar beside each and whether it is met."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from retort.graphs.processor import resolve_target

CPU_NAMES = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Bar:
    """What a figure must reach, or not exceed.

    Attributes:
        limit: The least figure allowed.
        is_most: Whether the limit is the largest figure allowed instead.
    """

    limit: float
    is_most: bool = False

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {self.limit:g}"

    def judge(self, figure: float) -> str:
        """Return ``met`` or ``missed``."""
        met = figure <= self.limit if self.is_most else figure >= self.limit
        return "met" if met else "missed"


@dataclass(frozen=True)
class Measure:
    """One row of a table of measures.

    Attributes:
        name: What is measured.
        bar: What it must reach; None: no bar.
        digits: Decimals that are printed; the bar sees them all.
    """

    name: str
    bar: Bar | None = None
    digits: int = 4

    def cell(self, figure: float | None) -> str:
        """Return a figure as it is printed; None: there is none."""
        if figure is None:
            return "–"
        judged = f" {self.bar.judge(figure)}" if self.bar else ""
        return f"{figure:.{self.digits}f}{judged}"


def by_name(measures: Sequence[Measure], figures: Sequence[float]) -> dict[str, float]:
    """Return figures by the names of their measures."""
    return {measure.name: float(figure) for measure, figure in zip(measures, figures, strict=True)}


def measures_table(
    measures: Sequence[Measure], columns: Mapping[str, Mapping[str, float]], title: str = "measure"
) -> str:
    """Return a table with a row for each measure, and a column for each file's figures by name."""
    rows = [
        [
            measure.name,
            str(measure.bar or "–"),
            *(measure.cell(figures.get(measure.name)) for figures in columns.values()),
        ]
        for measure in measures
    ]
    return table([title, "bar", *columns], rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(header)}", *lines[1:]])


def machine() -> str:
    """Return the processor, its 8-bit target and ONNX Runtime's version, for a line of text."""
    target = resolve_target("auto")
    said = CPU_NAMES.read_text(encoding="utf-8") if CPU_NAMES.is_file() else ""
    names = [line.partition(":")[2].strip() for line in said.splitlines() if "model name" in line]
    name = names[0] if names else platform.processor() or platform.machine()
    saturates = ", whose 8-bit products saturate at 16 bits" if target == "avx2" else ""
    return f"{name} ({target}{saturates}), ONNX Runtime {onnxruntime.__version__}"
