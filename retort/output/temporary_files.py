"""Temporary files of the libraries, kept where the run's own are."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let ``tempfile`` work in a folder: ONNX Runtime keeps whole models there.

    In the system's own a small disk fills up, and a killed run leaves them behind.
    """
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
