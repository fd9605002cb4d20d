"""What holds for all tests: one thread, no code left in the user's caches, shared data if any."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def collector_put_back() -> Iterator[None]:
    """Undo what a command run in this process tells the garbage collector: to look rarely."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Free, after each file, the models that it left in reference cycles."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()


@pytest.fixture(autouse=True)
def logging_put_back() -> Iterator[None]:
    """Undo what a command run in this process sets up, so that the next test sees the log."""
    loggers = [logging.getLogger(name) for name in ("retort", "onnx_configs")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers = handlers
        logger.setLevel(level)
        logger.propagate = propagate


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
