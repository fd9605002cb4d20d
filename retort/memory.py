"""Memory of the libraries that a conversion runs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def collect_rarely() -> None:
    """Let the garbage collector look less often, for a process that imports torch.

    The import makes a million objects, and a third of its time went into looking through them.
    """
    gc.set_threshold(50_000, 20, 20)


@contextlib.contextmanager
def without_leftovers() -> Iterator[None]:
    """Free, at the end, what was made inside: the libraries' models are in reference cycles.

    What existed before is out of the collector's sight meanwhile: to look through all of torch
    takes a third of a second each time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


def leave_quickly() -> None:
    """Spare a process that ends the last look of the garbage collector through all of torch."""
    gc.freeze()
