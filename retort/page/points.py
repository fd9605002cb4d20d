"""What is plotted of files and recipes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from statistics import geometric_mean

from retort.report import FileReport, Ladder


@dataclass(frozen=True)
class Point:
    """What is plotted of a file or a recipe.

    Attributes:
        label: What it is called.
        mean: Its mean fidelity.
        worst: Its lowest.
        bytes: Its size.
        speed: Times faster than fp32, over all shapes; NaN if not measured.
        passed: Whether it has the fidelity that was asked for; None if none was.
        scores: All its scores, for the distribution.
    """

    label: str
    mean: float
    worst: float
    bytes: int
    speed: float
    passed: bool | None = None
    scores: tuple[float, ...] = ()


def file_points(files: Sequence[FileReport]) -> list[Point]:
    """Return a point for each file."""
    labels = file_labels([row.file for row in files])
    return [
        Point(
            label=label,
            mean=row.fidelity_mean,
            worst=row.fidelity_min,
            bytes=row.bytes,
            speed=overall(row.speed),
            scores=row.scores,
        )
        for label, row in zip(labels, files, strict=True)
    ]


def rung_points(ladder: Ladder) -> list[Point]:
    """Return a point for each recipe that was tried."""
    return [
        Point(
            label=rung.recipe,
            mean=rung.fidelity_mean,
            worst=rung.fidelity_min,
            bytes=rung.bytes,
            speed=overall(rung.speed),
            passed=rung.passed,
        )
        for rung in ladder.rungs
    ]


def file_labels(names: Sequence[str]) -> list[str]:
    """Return the names without folder and ending, where that leaves them different."""
    stems = [PurePath(name).stem for name in names]
    return stems if len(set(stems)) == len(stems) else list(names)


def node_labels(names: Sequence[str]) -> list[str]:
    """Return the names of nodes without the parts that all have at their beginning or end."""
    parts = [name.strip("/").split("/") for name in names]
    while min(map(len, parts)) > 1 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    while min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    return ["/".join(part) for part in parts]


def overall(speed: Sequence[float]) -> float:
    """Return the geometric mean of speeds over their shapes; NaN where none was measured."""
    measured = [figure for figure in speed if math.isfinite(figure) and figure > 0]
    return geometric_mean(measured) if measured else math.nan
