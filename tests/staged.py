"""Graphs taken from stage to stage, each made once in a session, and what lies in a folder."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pytest
from converted import workshop
from local_models import resolved
from tiny_checkpoints import build_sentence_transformer

from onnx_configs import families
from retort.arguments import ConversionArguments
from retort.artifact import Artifact, Checkpoint
from retort.stages.export import export
from retort.stages.optimize import optimize

ARGUMENTS = ConversionArguments(model_id="", recipe="plain")


@cache
def checkpoint() -> Checkpoint:
    """Return a tiny BERT with mean pooling."""
    return resolved(build_sentence_transformer(workshop() / "staged" / "checkpoint", "bert"))


@cache
def portable() -> Artifact:
    """Return its graph as it was exported."""
    folder = workshop() / "staged" / "portable"
    return export(checkpoint(), families()["embedding"], ARGUMENTS, folder)


@cache
def optimized() -> Artifact:
    """Return its graph with fused operators."""
    return optimize(portable(), checkpoint(), 1, workshop() / "staged" / "optimized")


@cache
def with_external_data() -> Artifact:
    """Return its graph with the tensors in a file of their own, as beyond 2 GB."""
    folder = workshop() / "staged" / "external"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")
        return export(checkpoint(), families()["embedding"], ARGUMENTS, folder)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
