"""What holds for all tests: one thread, no code left in the user's caches, shared data if any."""

from __future__ import annotations

import os
import tempfile

import pytest
from shared_data import SHARED_DATA

_MODULES = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process before any test file imports transformers, which reads it once."""
    config.stash[_MODULES] = tempfile.TemporaryDirectory(prefix="retort-modules-")
    os.environ["HF_MODULES_CACHE"] = config.stash[_MODULES].name
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(1)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what checkpoints with their own code left."""
    config.stash[_MODULES].cleanup()


def pytest_report_header() -> str:
    """Say whether the tests that need shared data can run."""
    found = SHARED_DATA.is_dir()
    return f"shared data: {'found' if found else 'absent, so its tests are deselected'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need shared data where there is none."""
    if SHARED_DATA.is_dir():
        return
    absent = [item for item in items if item.get_closest_marker("shared_data")]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if item not in absent]
