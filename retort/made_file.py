"""One more graph beside a graph that was found: made by a stage, put in place, recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from retort.artifact import Artifact, graph_bytes, graph_files
from retort.found_file import FoundFile
from retort.graphs.onnx_file import LARGEST_SINGLE_FILE, save_graph, settle_header
from retort.graphs.session import open_session
from retort.output.output_file import output_file
from retort.record_update import place_of
from retort.talk import doing

Stage = Callable[[Artifact, Path], Artifact]


def make_file(found: FoundFile, output: Path, stage: Stage, *, force: bool) -> Artifact:
    """Run a stage on a graph and put what it makes in its place, whole or not at all.

    In a folder that Retort made, ``conversion.json``, the page and the card tell of the new file.
    The header is settled as in a conversion, and keeps the metadata of the graph that was found.

    Args:
        found: The graph; not changed.
        output: The ``.onnx`` file to make; other names of the bytes it had keep them.
        stage: Takes the graph and an empty folder, and returns what it made there.
        force: Whether to replace an existing file.

    Raises:
        InputError: If the output may not be written, or is the graph that was found.
        ConversionError: If the stage fails, or ONNX Runtime does not load what it made.
    """
    found.refuse_as_output(output)
    place = place_of(output)
    with output_file(output, force=force, beside=place.told if place else ()) as new:
        made = stage(found.artifact(new.parent / "found"), new.parent / "stage")
        settled = _settled(made, found, new, place.name if place else output.name)
        with doing(f"loading what was made of {found.path}"):
            open_session(new)
        if place:
            place.add(settled, new.parent)
    if place:
        place.drop_page()
    return replace(settled, path=output)


def with_settings(made: Artifact, settings: Mapping[str, object]) -> Artifact:
    """Return the artifact with more settings of its last step."""
    *before, step = made.steps
    return replace(made, steps=(*before, replace(step, settings={**step.settings, **settings})))


def _settled(made: Artifact, found: FoundFile, new: Path, name: str) -> Artifact:
    started = time.perf_counter()
    _in_one_file(made.path)
    settle_header(made.path, new, found.metadata)
    settings = {"file": name, "metadata": dict(found.metadata)}
    return made.after(new, "place", settings, time.perf_counter() - started)


def _in_one_file(path: Path) -> None:
    # ONNX Runtime's tools keep to external data where the graph before needed them.
    data = graph_files(path)[1:]
    if data and graph_bytes(path) < LARGEST_SINGLE_FILE:
        save_graph(onnx.load(str(path)), path)
        for file in data:
            file.unlink()
