"""Verify: sample texts through a finished folder, beside the PyTorch model's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.runtime import load
from retort.runtime.folder import Folder
from retort.talk import third_party_quiet

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Reference
    from retort.artifact import Checkpoint

EXAMPLES_FILE = "verify_texts.txt"
FALLBACK_TEXTS = ("A short text to see what the files answer.",)


class ReferenceGraph:
    """The PyTorch model in the place of a graph, so that one decoder reads both."""

    def __init__(self, reference: Reference, path: Path, outputs: Mapping[str, int]) -> None:
        self._reference = reference
        self.path = path
        self.inputs = tuple(reference.tokenize(["a"], "right"))
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
) -> tuple[str, ...]:
    """Return lines that tell, for each file and text, what it answers.

    Where the PyTorch model answers otherwise, its answer stands beside.

    Args:
        folder: The finished folder.
        files: The graphs in it to run.
        family: Words the answers.
        reference: The PyTorch model.
        texts: The texts to run.
    """
    lines = []
    with third_party_quiet():
        for file in files:
            model = load(folder, file)
            graph = ReferenceGraph(reference, folder / file, model.graph.outputs)
            original = type(model)(Folder.open(folder), graph)  # type: ignore[arg-type]
            lines.append(f"{file}")
            for text in texts:
                answer, expected = family.answers(model, text), family.answers(original, text)
                lines.append(f"  {text}")
                lines.extend(f"    {line}" for line in answer or ["nothing found"])
                if answer != expected:
                    lines.append("    PyTorch answers otherwise:")
                    lines.extend(f"      {line}" for line in expected or ["nothing found"])
    return tuple(lines)
