"""Verify: sample texts through a finished folder, beside the PyTorch model's answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.errors import FidelityError
from retort.runtime import load
from retort.runtime.folder import Folder
from retort.runtime.graph import SUPPLIED_INPUTS
from retort.talk import third_party_quiet

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Reference
    from retort.artifact import Checkpoint
    from retort.fidelity import Distance
    from retort.runtime.loading import Model

EXAMPLES_FILE = "verify_texts.txt"
NOTHING = ("nothing found",)
FALLBACK_TEXTS = ("A short text to see what the files answer.",)


class ReferenceGraph:
    """The PyTorch model in the place of a graph, so that one decoder reads both."""

    def __init__(self, reference: Reference, path: Path, outputs: Mapping[str, int]) -> None:
        self._reference = reference
        self.path = path
        self.inputs = tuple(
            name for name in reference.tokenize(["a"], "right") if name in SUPPLIED_INPUTS
        )
        self.outputs = outputs
        self.metadata: Mapping[str, str] = {}

    def run(self, feeds: Mapping[str, Any], output: str) -> Any:
        """Return one output of the PyTorch model for int64 ``[batch, sequence]`` inputs."""
        return self._reference.run({name: feeds[name] for name in self.inputs})[output]


def sample_texts(checkpoint: Checkpoint, given: Sequence[str]) -> list[str]:
    """Return the texts to verify with: the given ones, else the checkpoint's own examples."""
    if given:
        return list(given)
    path = checkpoint.folder / EXAMPLES_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.strip() for line in lines if line.strip()] or list(FALLBACK_TEXTS)


def verify(
    folder: Path,
    files: Sequence[str],
    family: ModelFamily,
    reference: Reference,
    texts: Sequence[str],
    *,
    exact: Collection[str] = (),
) -> tuple[str, ...]:
    """Return lines that tell what the files answer to each text.

    Files that answer alike are told once; where an answer is not the PyTorch model's, both stand
    there.

    Args:
        folder: The finished folder.
        files: The graphs in it to run.
        family: Words the answers.
        reference: The PyTorch model.
        texts: The texts to run.
        exact: Those files that must be as near to PyTorch as the family says: the fp32 ones.

    Raises:
        FidelityError: If one of them is not.
    """
    with third_party_quiet():
        models = {file: load(folder, file) for file in files}
        first = next(iter(models.values()))
        graph = ReferenceGraph(reference, folder, first.graph.outputs)
        original = type(first)(Folder.open(folder), graph)  # type: ignore[arg-type]
        lines: list[str] = []
        for text in texts:
            by_answer: dict[tuple[str, ...], list[str]] = {}
            for file, model in models.items():
                by_answer.setdefault(tuple(family.answers(model, text)), []).append(file)
            lines.append(text)
            lines.extend(_told(by_answer, tuple(family.answers(original, text))))
            distances = _distances(models, family, reference, text)
            _require_near(distances, exact, text)
            lines.extend(f"  {file}: {d.name} {d.value:.2g}" for file, d in distances.items())
    return tuple(lines)


def _distances(
    models: Mapping[str, Model], family: ModelFamily, reference: Reference, text: str
) -> dict[str, Distance]:
    """Return how far each file is from the PyTorch model, if the family measures that."""
    inputs = reference.tokenize([text], "right")
    expected = reference.run(inputs)
    distances = {}
    for file, model in models.items():
        actual = {name: model.graph.run(inputs, name) for name in expected}
        if distance := family.distance(expected, actual):
            distances[file] = distance
    return distances


def _require_near(distances: Mapping[str, Distance], exact: Collection[str], text: str) -> None:
    for file, distance in distances.items():
        if file in exact and not distance.value <= distance.limit:
            raise FidelityError(
                f"{file}: {distance.name} is {distance.value:.2g} for {text!r}, more than "
                f"{distance.limit:g}; no folder was written"
            )


def _told(
    by_answer: Mapping[tuple[str, ...], Sequence[str]], expected: tuple[str, ...]
) -> list[str]:
    lines = []
    for answer, files in by_answer.items():
        agrees = "as PyTorch" if answer == expected else "unlike PyTorch"
        lines.append(f"  {', '.join(files)} ({agrees}):")
        lines.extend(f"    {line}" for line in answer or NOTHING)
    if any(answer != expected for answer in by_answer):
        lines.append("  PyTorch:")
        lines.extend(f"    {line}" for line in expected or NOTHING)
    return lines
