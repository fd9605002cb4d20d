"""The tables of a report's page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retort.page.elements import Cell, table
from retort.page.points import file_labels
from retort.report import FileReport, Ladder, RungReport
from retort.text_table import or_dash

Cells = list[str | Cell]


def figures_table(rows: Sequence[FileReport], shapes: Sequence[str]) -> str:
    """Return what was measured of each file.

    Args:
        rows: The files.
        shapes: Those of the speeds, batch×sequence.
    """
    header = ["file", "precision", "MB", "mean", "min", "difference", "alone/batch"]
    header += [f"speed {shape}" for shape in shapes]
    labels = file_labels([row.file for row in rows])
    cells = [_file_cells(label, row) for label, row in zip(labels, rows, strict=True)]
    return table(header, cells, label="All figures", words=(0, 1))


def graphs_table(rows: Sequence[FileReport]) -> str:
    """Return what each file's graph says of itself."""
    header = ["file", "opset", "IR version", "largest difference seen at", "fused operators"]
    labels = file_labels([row.file for row in rows])
    cells = [_graph_cells(label, row) for label, row in zip(labels, rows, strict=True)]
    return table(header, cells, label="Graphs", words=(0, 3, 4))


def rungs_table(ladder: Ladder, shapes: Sequence[str]) -> str:
    """Return what was measured of each recipe that was tried."""
    header = ["recipe", "", "MB", "mean", "min", "alone/batch"]
    header += [*(f"speed {shape}" for shape in shapes), ""]
    cells = [_rung_cells(rung, len(shapes)) for rung in ladder.rungs]
    words = (0, 1, len(header) - 1)
    return table(header, cells, label=f"Recipes tried for {ladder.precision}", words=words)


def _file_cells(label: str, row: FileReport) -> Cells:
    return [
        label,
        row.precision,
        f"{row.bytes / 1e6:.1f}",
        or_dash(row.fidelity_mean, ".4f"),
        or_dash(row.fidelity_min, ".4f"),
        or_dash(row.largest_difference, ".1e"),
        or_dash(row.batch_mates, ".4f"),
        *(or_dash(figure, ".2f", "×") for figure in row.speed),
    ]


def _graph_cells(label: str, row: FileReport) -> Cells:
    fused = ", ".join(f"{name} {count}" for name, count in row.fused_operators.items())
    seen = row.worst_case or "–"
    return [label, str(row.opset), str(row.ir_version), seen, Cell(fused or "none", "note")]


def _rung_cells(rung: RungReport, shapes: int) -> Cells:
    unmeasured = (math.nan,) * (shapes - len(rung.speed))
    return [
        rung.recipe,
        Cell("passed", "good") if rung.passed else Cell("failed", "bad"),
        f"{rung.bytes / 1e6:.1f}",
        or_dash(rung.fidelity_mean, ".4f"),
        or_dash(rung.fidelity_min, ".4f"),
        or_dash(rung.batch_mates, ".4f"),
        *(or_dash(figure, ".2f", "×") for figure in (*rung.speed, *unmeasured)),
        Cell(rung.note, "note"),
    ]
