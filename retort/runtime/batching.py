"""What every model does around its graph: checking texts, sorting them, and showing progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from retort.errors import InputError

Result = TypeVar("Result")


def check_text(text: object, name: str = "the text") -> str:
    """Return ``text``.

    Raises:
        InputError: It is not a ``str``.
    """
    if not isinstance(text, str):
        raise InputError(f"{name} must be a str, not {type(text).__name__}")
    return text


def check_texts(texts: object, name: str = "text") -> list[str]:
    """Return ``texts`` as a list; one ``str`` becomes a list of one.

    Raises:
        InputError: It is not a ``str`` nor a sequence of them.
    """
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise InputError(f"{name}: give a str or a sequence of str, not {type(texts).__name__}")
    return [check_text(text, f"{name} {index}") for index, text in enumerate(texts)]


def sorted_batches(
    lengths: Sequence[int], batch_size: int, show_progress: bool | None = None
) -> Iterator[list[int]]:
    """Yield batches of positions, the longest first, so that little of a batch is padding.

    Args:
        lengths: The length of each item, in any unit.
        batch_size: Items in a batch.
        show_progress: Whether to show a progress bar on stderr; None: if that is a terminal and
            there is more than one batch.

    Raises:
        InputError: ``batch_size`` is less than 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if show_progress is False or (show_progress is None and len(batches) < 2):
        yield from batches
        return
    from tqdm import tqdm  # here, so that a quiet run does not pay for it

    # tqdm's own None means: only on a terminal.
    disable = None if show_progress is None else False
    yield from tqdm(batches, desc="Batches", unit="batch", disable=disable)


def in_batches(
    lengths: Sequence[int],
    run: Callable[[list[int]], Iterable[Result]],
    batch_size: int,
    show_progress: bool | None = None,
) -> list[Result]:
    """Return the result of each item, in order, items of like length being run together.

    Args:
        lengths: The length of each item, in any unit.
        run: Gives the results of the items at some positions, in the order of these.
        batch_size: Items in a batch.
        show_progress: Whether to show a progress bar, as for ``sorted_batches``.

    Raises:
        InputError: ``batch_size`` is less than 1.
    """
    results: dict[int, Result] = {}
    for batch in sorted_batches(lengths, batch_size, show_progress):
        results.update(zip(batch, run(batch), strict=True))
    return [results[index] for index in range(len(lengths))]
