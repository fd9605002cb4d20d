"""Resolve local folders in tests, and keep what is said about those that are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from retort.arguments import SourceArguments
from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.stages.resolve import resolve

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def resolved(model: str | Path, *, with_weights: bool = True, **options: bool) -> Checkpoint:
    """Resolve a local folder."""
    return resolve(SourceArguments(model_id=str(model), **options), with_weights=with_weights)


def refusal(model: str | Path, *, with_weights: bool = True, **options: bool) -> str:
    """Return why a model is refused, which must be one line."""
    with pytest.raises(InputError) as caught:
        resolved(model, with_weights=with_weights, **options)
    message = str(caught.value)
    assert message.isprintable()
    return message


def torch_file() -> bytes:
    """Return a zip file as ``torch.save`` writes, empty but whole."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    return stream.getvalue()
