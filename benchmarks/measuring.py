"""Measuring graphs as they run here, and as they run where 8-bit products do not saturate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnxruntime
from eight_bit_files import FP32, Files, GraphFile
from tables import Bar, Measure, measures_table

from retort.graphs.session import open_session
from retort.graphs.timing import fastest_seconds
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph

Found = TypeVar("Found")

SHAPES = ((1, 32), (8, 128), (32, 128))
TIMED_SECONDS = 0.8  # for each session and shape in each round


class ExactGraph(Graph):
    """A graph whose 8-bit products do not saturate at 16 bits, as on processors with VNNI."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._session = _open_exactly(path)


def open_graph(path: Path, *, exact: bool) -> Graph:
    """Open a graph for the runtime's models, as it is or with exact products."""
    return ExactGraph(path) if exact else Graph(path)


def open_for_measuring(path: Path, *, exact: bool) -> Any:
    """Open a session, as it is or with exact products, that does not slow what runs beside it."""
    return _open_exactly(path) if exact else open_session(path, spinning=False)


def _open_exactly(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # On x86 ONNX Runtime then multiplies unsigned by unsigned, slowly, which does not saturate.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def in_each_arithmetic(
    files: Sequence[GraphFile], measure: Callable[[GraphFile, bool], Found], *, exact: bool
) -> dict[str, Found]:
    """Return what a function finds of each file, by the column it goes into.

    Args:
        files: The files.
        measure: Called with a file and with whether its products are exact.
        exact: Whether to measure both; where they differ, the file gets two columns.
    """
    found: dict[str, Found] = {}
    for file in files:
        print(f"measuring {file.name}", file=sys.stderr)
        here = measure(file, False)
        without_saturation = measure(file, True) if exact else here
        if here == without_saturation:
            found[file.name] = here
        else:
            found[f"{file.name}, saturating"] = here
            found[f"{file.name}, exact"] = without_saturation
    return found


def sizes_and_speeds(
    files: Files,
    rounds: int,
    *,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    beside: Sequence[GraphFile] = (),
    most_megabytes: Bar | None = None,
    least_speed: Bar | None = None,
) -> str:
    """Return a table of sizes and speeds; speeds stay out where there are no rounds.

    Args:
        files: The files.
        rounds: How often all of them are timed, in turns.
        shapes: Of the timed inputs, batch and sequence.
        beside: Files to measure beside the 8-bit ones.
        most_megabytes: The bar for sizes.
        least_speed: The bar for speeds against the first 8-bit file, the plain one.
    """
    measured = [*beside, *files.eight_bits]
    size = Measure("MB", most_megabytes, 1)
    measures = [size]
    columns = {file.name: {size.name: file.megabytes} for file in measured}
    if rounds:
        print("timing", file=sys.stderr)
        sessions = {file.name: open_session(file.path) for file in (files.original, *measured)}
        vocabulary = Folder(files.folder).mapping("config.json")["vocab_size"]
        seconds = fastest_seconds(
            sessions, vocabulary, shapes=shapes, rounds=rounds, budget_seconds=TIMED_SECONDS
        )
        for baseline, bar in ((files.eight_bits[0].name, least_speed), (FP32, None)):
            for place, (batch, length) in enumerate(shapes):
                name = f"speed against {baseline}, {batch}×{length}"
                measures.append(Measure(name, bar, 2))
                for file, row in columns.items():
                    row[name] = seconds[baseline][place] / seconds[file][place]
    return measures_table(measures, columns)
