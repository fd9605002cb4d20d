"""The fidelity report: its values, its tables, its JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from retort.text_table import aligned, or_dash

QUANTILES = 101


@dataclass(frozen=True)
class FileReport:
    """What validation found of one file.

    Attributes:
        file: Its name in the folder.
        precision: ``fp32`` or the value of ``--quantize``.
        bytes: Its size, external data included.
        opset: The standard operator set it imports.
        ir_version: The IR version of its header.
        fused_operators: Counts by operator.
        fidelity_mean: Mean over all texts and shapes, in the family's unit; 1 is perfect.
        fidelity_min: The worst of them.
        largest_difference: Between any two output values, relative where values exceed 1.
        worst_case: The kind of batch that showed it.
        speed: Times faster than the portable fp32 file, by shape.
        batch_mates: The worst fidelity of a text alone against the same text in a batch, both by
            this file; 1 where batch mates have no effect.
        scores: All fidelity scores that the mean and the minimum are of, to six digits.
    """

    file: str
    precision: str
    bytes: int
    opset: int
    ir_version: int
    fused_operators: Mapping[str, int]
    fidelity_mean: float
    fidelity_min: float
    largest_difference: float
    worst_case: str
    speed: tuple[float, ...]
    batch_mates: float
    scores: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values: of many scores their percentiles, of NaN null."""
        told = plain(asdict(replace(self, scores=())))
        return {**told, "scores": quantiles(self.scores)}


@dataclass(frozen=True)
class RungReport:
    """What was measured of one recipe that was tried.

    Attributes:
        recipe: Its name: ``plain``, ``static``, ...
        bytes: The size of the file it made.
        fidelity_mean: Mean over held-out texts, in the family's unit; 1 is perfect.
        fidelity_min: The worst of them.
        batch_mates: The worst fidelity of a text alone against the same text in a batch; 1 where
            batch mates have no effect.
        speed: Times faster than fp32, by the report's speed shapes.
        passed: Whether it has the fidelity that was asked for.
        note: Why it was left, or what it did, in a few words.
    """

    recipe: str
    bytes: int
    fidelity_mean: float
    fidelity_min: float
    batch_mates: float
    speed: tuple[float, ...]
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Ladder:
    """The recipes that were tried for one precision, in the order they were tried.

    Attributes:
        precision: The value of ``--quantize``.
        min_fidelity: The mean fidelity that was asked for.
        rungs: What was tried, in order; the last that passed is what was kept.
        layers: The relative output error of each quantized node of the chosen file.
    """

    precision: str
    min_fidelity: float
    rungs: tuple[RungReport, ...]
    layers: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the ladder as plain JSON values, of NaN null."""
        return plain(asdict(self))

    def table(self) -> str:
        """Return the ladder as an aligned table for a terminal."""
        shapes = max((len(rung.speed) for rung in self.rungs), default=0)
        header = ["recipe", "MB", "mean", "min", "alone/batch", *["speed"] * shapes, "", ""]
        rows = [header, *(_rung_cells(rung, shapes) for rung in self.rungs)]
        title = f"{self.precision}: recipes tried for a fidelity of {self.min_fidelity:g}"
        return "\n".join([title, *aligned(rows, left=(0, len(header) - 2, len(header) - 1))])


@dataclass(frozen=True)
class ValidationReport:
    """What validation found of all files.

    Attributes:
        reference: The library and version that ran the PyTorch model.
        fidelity_unit: What a score measures.
        texts: How many texts were run.
        speed_shapes: The shapes of the speed figures, batch×sequence.
        files: One row for each file.
        ladders: The recipes that were tried, for each precision that was searched.
    """

    reference: str
    fidelity_unit: str
    texts: int
    speed_shapes: tuple[str, ...]
    files: tuple[FileReport, ...]
    ladders: tuple[Ladder, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        told = {key: getattr(self, key) for key in ("reference", "fidelity_unit", "texts")}
        return {
            **told,
            "speed_shapes": list(self.speed_shapes),
            "files": [row.as_json() for row in self.files],
            "ladders": [ladder.as_json() for ladder in self.ladders],
        }

    def table(self) -> str:
        """Return the report as aligned tables for a terminal."""
        header = ["file", "MB", "opset", "fused operators", "mean", "min", "difference"]
        header += ["alone/batch", *(f"speed {shape}" for shape in self.speed_shapes)]
        rows = [header, *(_cells(row) for row in self.files)]
        title = (
            f"Fidelity: {self.fidelity_unit}, {self.texts} texts, against {self.reference}; "
            "speed against the first file"
        )
        tables = (ladder.table() for ladder in self.ladders)
        return "\n".join([title, *aligned(rows, left=(0, 3)), *tables])


def quantiles(scores: Sequence[float]) -> list[float]:
    """Return scores in order, or of more than 101 their percentiles, minimum to maximum."""
    finite = sorted(filter(math.isfinite, scores))
    if len(finite) <= QUANTILES:
        return finite
    found = np.quantile(np.asarray(finite), np.linspace(0, 1, QUANTILES))
    return [round(float(value), 6) for value in found]


def plain(value: Any) -> Any:
    """Return a value as JSON has it: lists for tuples, null for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cells(row: FileReport) -> list[str]:
    fused = " ".join(f"{name}×{count}" for name, count in row.fused_operators.items())
    return [
        row.file,
        f"{row.bytes / 1e6:.1f}",
        str(row.opset),
        fused or "none",
        f"{row.fidelity_mean:.4f}",
        f"{row.fidelity_min:.4f}",
        f"{row.largest_difference:.1e}",
        or_dash(row.batch_mates, ".4f"),
        *(or_dash(speed, ".2f", "×") for speed in row.speed),
    ]


def _rung_cells(rung: RungReport, shapes: int) -> list[str]:
    speed = [or_dash(figure, ".2f", "×") for figure in rung.speed]
    return [
        rung.recipe,
        f"{rung.bytes / 1e6:.1f}",
        f"{rung.fidelity_mean:.4f}",
        f"{rung.fidelity_min:.4f}",
        or_dash(rung.batch_mates, ".4f"),
        *speed,
        *[""] * (shapes - len(speed)),
        "passed" if rung.passed else "failed",
        rung.note,
    ]
