"""Merge the files of one graph, whoever made it; ``retort merge``."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from retort.artifact import Artifact, graph_files
from retort.found_file import FoundFile, find_file
from retort.graphs.external_data import write_merged
from retort.graphs.found_graph import read_whole_outline
from retort.output.output_file import output_file
from retort.record_update import Place, place_of

logger = logging.getLogger(__name__)


def merge_file(graph: Path, output: Path, *, force: bool = False) -> Path:
    """Write a graph and all its external data to one file, or from 2 GB on to two.

    The second is then ``<output>_data``, its tensors aligned for mapping. No weights are loaded,
    and nothing else of the graph changes. In a folder that Retort made, ``conversion.json``,
    the page and the card tell of the new file.

    Args:
        graph: An ``.onnx`` file made by any tool, of any precision.
        output: The ``.onnx`` file to make; it may be ``graph`` itself, with ``force``.
        force: Whether to replace an existing file.

    Returns:
        The file that was made.

    Raises:
        InputError: If the graph is not ONNX or not whole, or the output may not be written.
        ConversionError: If the result cannot be written.
    """
    found = find_file(graph)
    if not found.is_at(output):
        found.refuse_as_output(output)
    place = place_of(output)
    with output_file(output, force=force, beside=place.told if place else ()) as new:
        started = time.perf_counter()
        write_merged(read_whole_outline(graph), graph.parent, new)
        if place:
            place.add(_merged(found, new, place, started), new.parent)
    if place:
        place.drop_page()
    _tell(found, output)
    return output


def _merged(found: FoundFile, new: Path, place: Place, started: float) -> Artifact:
    own = place_of(found.path)
    precision = own.precision() if own else None
    artifact = Artifact(found.path, found.metadata.get("family", ""), found.steps())
    settings = {"file": place.name, "from": found.path.name, "files": len(found.files)}
    made = artifact.after(new, "merge", settings, time.perf_counter() - started)
    return made.with_precision(precision or found.quantized_by or "fp32")


def _tell(found: FoundFile, output: Path) -> None:
    written = graph_files(output)
    size = sum(file.stat().st_size for file in written) / 1e6
    told = (found.path.name, len(found.files), output.name, len(written), size)
    logger.info("%s in %d files → %s in %d, %.1f MB", *told)
    if found.is_at(output):
        now = {os.path.realpath(file) for file in written}
        left = [file for file in found.files if os.path.realpath(file) not in now and file.exists()]
        if left:
            logger.info(
                "%d files beside %s are no longer its external data, such as %s; remove them where "
                "no other graph needs them",
                *(len(left), output.name, left[0].name),
            )
