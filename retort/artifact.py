"""The frozen values that travel between the stages of a conversion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retort.report import Ladder


@dataclass(frozen=True)
class Checkpoint:
    """A model to convert: its files in a local folder, and where they came from.

    Attributes:
        model_id: What the user asked for: a Hub id, or a local path as it was written.
        name: The folder written under the output's parent: the Hub id, or the local folder's name.
        folder: The local folder (the Hub's snapshot folder for a Hub id). Only ever read.
        config: The parsed ``config.json``.
        commit: The Hub's commit hash; None for a local folder.
        subfolder: Where below ``folder`` the backbone lies; sentence-transformers checkpoints may
            keep it in ``0_Transformer``.
        trust_remote_code: Whether the user allowed code that the checkpoint brings.
        allow_pickle: Whether the user allowed pickle weights.
    """

    model_id: str
    name: str
    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    commit: str | None = None
    subfolder: str = ""
    trust_remote_code: bool = False
    allow_pickle: bool = False

    @property
    def backbone(self) -> Path:
        """The folder with ``config.json``, the weights and the tokenizer."""
        return self.folder / self.subfolder

    @property
    def model_type(self) -> str:
        """The architecture's name in ``config.json``, for example ``bert``."""
        return str(self.config.get("model_type", ""))


@dataclass(frozen=True)
class Step:
    """One thing that was done to a graph, with what is needed to do it again."""

    name: str
    settings: Mapping[str, Any]
    seconds: float
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """One graph on disk and the steps that made it.

    Attributes:
        path: The ``.onnx`` file; its external data, if any, lies beside it.
        family: The name of the model family.
        steps: What was done, first to last.
        precision: ``fp32``, or the value of ``--quantize`` that made it.
        ladder: The recipes that were tried on the way to it; None where none were.
    """

    path: Path
    family: str
    steps: tuple[Step, ...] = ()
    precision: str = "fp32"
    ladder: Ladder | None = None

    def after(self, path: Path, name: str, settings: Mapping[str, Any], seconds: float) -> Artifact:
        """Return the artifact at ``path`` that one more step made out of this one."""
        step = Step(name, settings, round(seconds, 3), graph_bytes(path), graph_sha256(path))
        return replace(self, path=path, steps=(*self.steps, step))

    def with_precision(self, precision: str) -> Artifact:
        """Return the same graph, known to be of another precision."""
        return replace(self, precision=precision)


def graph_files(path: Path) -> list[Path]:
    """Return the ``.onnx`` file and its external data files, ``<file>_data*``."""
    return [path, *sorted(path.parent.glob(f"{path.name}_data*"))]


def graph_bytes(path: Path) -> int:
    """Return the size of a graph in bytes, external data included."""
    return sum(file.stat().st_size for file in graph_files(path))


def graph_sha256(path: Path) -> str:
    """Return the SHA-256 of a graph's files, one after the other."""
    return joint_sha256(graph_files(path))


def joint_sha256(files: Iterable[Path]) -> str:
    """Return the SHA-256 of files as if they were one."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
