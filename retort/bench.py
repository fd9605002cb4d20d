"""The speed of a folder's graphs, beside one another; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retort.folder_graphs import FolderGraph, folder_graphs
from retort.graphs.made_up_inputs import vocabulary
from retort.graphs.session import open_session
from retort.graphs.timing import fastest_seconds, speed_against
from retort.report import plain
from retort.talk import doing
from retort.text_table import aligned, or_dash


@dataclass(frozen=True)
class SpeedRow:
    """How fast one graph is.

    Attributes:
        file: Its name in the folder.
        precision: ``fp32`` or another.
        bytes: Its size, external data included.
        milliseconds: Its fastest run, by shape; NaN of a shape that it does not take.
        speed: Times faster than the first file.
    """

    file: str
    precision: str
    bytes: int
    milliseconds: tuple[float, ...]
    speed: tuple[float, ...]


@dataclass(frozen=True)
class SpeedTable:
    """How fast the graphs of a folder are.

    Attributes:
        shapes: batch×sequence.
        rounds: How often each was timed.
        files: One row for each, the one that speed is against first.
    """

    shapes: tuple[str, ...]
    rounds: int
    files: tuple[SpeedRow, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the table as plain JSON values; null stands for shapes that a graph refuses."""
        return dict(plain(asdict(self)))

    def table(self) -> str:
        """Return the table for a terminal."""
        header = ["file", "precision", "MB"]
        header += [cell for shape in self.shapes for cell in (f"{shape} ms", "speed")]
        rows = [header, *(_cells(row) for row in self.files)]
        title = f"Fastest run of {self.rounds} rounds in random order; speed against {rows[1][0]}"
        return "\n".join([title, *aligned(rows, left=(0, 1))])


def bench_folder(folder: Path, shapes: Sequence[tuple[int, int]], rounds: int) -> SpeedTable:
    """Time every distinct graph of a folder on random tokens, none of them padding.

    Args:
        folder: Any folder with ``.onnx`` files.
        shapes: ``(batch, sequence)`` of each timing.
        rounds: How often each graph is timed at each shape.

    Raises:
        InputError: If there is no graph.
        ConversionError: If one does not run.
    """
    graphs = folder_graphs(folder)
    with doing(f"timing {folder}"):
        sessions = {graph.name: open_session(graph.path) for graph in graphs}
        words = min(vocabulary(graph.path) for graph in graphs)
        seconds = fastest_seconds(sessions, words, shapes=shapes, rounds=rounds)
    baseline = seconds[graphs[0].name]
    rows = tuple(_row(graph, seconds[graph.name], baseline) for graph in graphs)
    return SpeedTable(tuple(f"{batch}×{length}" for batch, length in shapes), rounds, rows)


def _row(graph: FolderGraph, seconds: Sequence[float], baseline: Sequence[float]) -> SpeedRow:
    milliseconds = tuple(round(1000 * value, 3) for value in seconds)
    speed = tuple(speed_against(baseline, seconds))
    return SpeedRow(graph.name, graph.precision, graph.bytes, milliseconds, speed)


def _cells(row: SpeedRow) -> list[str]:
    pairs = zip(row.milliseconds, row.speed, strict=True)
    figures = [(or_dash(time, ".2f"), or_dash(speed, ".2f", "×")) for time, speed in pairs]
    return [row.file, row.precision, f"{row.bytes / 1e6:.1f}", *(c for f in figures for c in f)]
