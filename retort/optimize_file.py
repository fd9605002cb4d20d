"""Fuse the operators of one graph file, whoever made it; ``retort optimize``."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retort.artifact import Artifact, Checkpoint, graph_bytes
from retort.errors import ConversionError
from retort.found_file import FoundFile, find_file
from retort.graphs.graph_facts import GraphFacts, graph_facts
from retort.graphs.made_up_inputs import difference_of_outputs
from retort.json_files import optional_object, write_json
from retort.made_file import make_file, with_settings
from retort.stages.optimize import optimize
from retort.talk import doing

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
# With these ONNX Runtime's optimizer looks for BERT's patterns and counts the heads itself.
BY_STRUCTURE = {"model_type": "bert", "num_attention_heads": 0, "hidden_size": 0}


@dataclass(frozen=True)
class OptimizedFile:
    """A graph and what became of it.

    Attributes:
        before: The facts of the graph that was found.
        after: Those of the one that was made.
        architecture: From where the number of heads and the model type were taken.
        bytes: Both sizes, external data included.
        difference: Between any two outputs on made-up inputs, relative where values exceed 1;
            None if they could not be compared.
    """

    before: GraphFacts
    after: GraphFacts
    architecture: str
    bytes: tuple[int, int]
    difference: float | None

    def table(self) -> str:
        """Return both graphs side by side, for a terminal."""
        fused = sorted({*self.before.fused_operators, *self.after.fused_operators})

        def column(title: str, facts: GraphFacts, size: int) -> list[str]:
            counts = [facts.nodes, len(facts.inputs), len(facts.outputs), facts.initializers]
            counts += [facts.fused_operators.get(name, 0) for name in fused]
            cells = [title, *map(str, counts), f"{size / 1e6:.1f}"]
            return [cell.rjust(max(map(len, cells))) for cell in cells]

        names = ["", "nodes", "inputs", "outputs", "initializers", *fused, "MB"]
        columns = [
            [name.ljust(max(map(len, names))) for name in names],
            column("before", self.before, self.bytes[0]),
            column("after", self.after, self.bytes[1]),
        ]
        told = "not compared" if self.difference is None else f"{self.difference:.1e}"
        rows = ["  ".join(row) for row in zip(*columns, strict=True)]
        return "\n".join(
            [*rows, f"architecture: {self.architecture}", f"largest difference: {told}"]
        )


def optimize_file(
    graph: Path,
    level: int,
    output: Path,
    *,
    force: bool = False,
    skip_shape_inference: bool = False,
) -> OptimizedFile:
    """Write a graph with fused operators to a file of its own, whole or not at all.

    Both graphs are run on made-up inputs, and one that differs is not written.

    Args:
        graph: An fp32 ``.onnx`` file made by any tool.
        level: 1 portable fusions, 2 those of the execution provider, 99 layouts of this processor.
        output: The ``.onnx`` file to make; other names of the bytes it had keep them.
        force: Whether to replace an existing file.
        skip_shape_inference: Leave symbolic shape inference out, for graphs on which it fails.

    Raises:
        InputError: If the graph is not ONNX, not whole, or quantized, or the output may not be
            written.
        ConversionError: If the graph cannot be optimized, or the result differs from it.
    """
    found = find_file(graph)
    found.refuse_quantized()
    before, size = graph_facts(found.path), found.bytes

    def stage(artifact: Artifact, folder: Path) -> Artifact:
        with _architecture(found) as (checkpoint, source):
            made = optimize(
                artifact, checkpoint, level, folder, skip_shape_inference=skip_shape_inference
            )
        difference = _checked_difference(found, artifact, made)
        told = {"architecture": source, "largest_difference": difference}
        return with_settings(made, {"from": found.path.name, **told})

    made = make_file(found, output, stage, force=force)
    (settings,) = (step.settings for step in made.steps[-2:] if step.name == "optimize")
    return OptimizedFile(
        before=before,
        after=graph_facts(output),
        architecture=settings["architecture"],
        bytes=(size, graph_bytes(output)),
        difference=settings["largest_difference"],
    )


def _checked_difference(found: FoundFile, before: Artifact, after: Artifact) -> float | None:
    with doing(f"running what was made of {found.path}"):
        difference = difference_of_outputs(before.path, after.path)
    if difference is None:
        logger.warning("%s: its outputs could not be compared before and after", found.path)
    elif not (math.isfinite(difference) and difference <= TOLERANCE):
        raise ConversionError(
            f"{found.path}: the fused graph differs from it by {difference:.2g}, more than "
            f"{TOLERANCE:g}, so it was not written; another --level may do, or none"
        )
    return difference


@contextmanager
def _architecture(found: FoundFile) -> Iterator[tuple[Checkpoint, str]]:
    """Yield a checkpoint with the graph's ``config.json``, and from where that was taken."""
    config, source = _configuration(found)
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / "config.json", config)
        yield Checkpoint(str(found.path), found.path.name, Path(folder), config), source


def _configuration(found: FoundFile) -> tuple[dict[str, Any], str]:
    told = found.metadata
    heads, hidden = told.get("num_heads", ""), told.get("hidden_size", "")
    if heads.isdecimal() and hidden.isdecimal() and _known(told.get("model_type")):
        own = {"num_attention_heads": int(heads), "hidden_size": int(hidden)}
        return {"model_type": told["model_type"], **own}, "its metadata"
    place = found.path.absolute().parent
    for folder, where in ((place, "beside it"), (place.parent, "one level up")):
        config = optional_object(folder / "config.json")
        if _known(config.get("model_type")):
            # Of a checkpoint with its own code the known part does.
            known = {key: config[key] for key in config.keys() - {"auto_map"}}
            return known, f"config.json {where}"
    logger.info("%s: neither metadata nor a config.json tell its architecture", found.path)
    return BY_STRUCTURE, "unknown; fused by structure, where it is that of BERT"


def _known(model_type: object) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(model_type, str) and model_type in CONFIG_MAPPING
