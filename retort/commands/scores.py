"""Scores of queries and documents, as a table for people and as a record for programs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

WIDEST_NAME = 40


def scores_record(
    queries: Sequence[str], documents: Sequence[str], scores: npt.NDArray[np.float32]
) -> Mapping[str, Any]:
    """Return what is printed of scores, and log them as a table with the best of a query first.

    Args:
        queries: What is looked for.
        documents: The texts, or the paths of images, that are scored.
        scores: float32 ``[queries, documents]``.
    """
    logger.info("\n".join(_lines(queries, documents, scores)))
    return {"scores": [[round(score, 4) for score in row] for row in scores.tolist()]}


def _lines(
    queries: Sequence[str], documents: Sequence[str], scores: npt.NDArray[np.float32]
) -> Iterator[str]:
    names = [_shortened(name) for name in documents]
    for query, row in zip(queries, scores, strict=True):
        yield _shortened(query)
        for at in np.argsort(-row, kind="stable"):
            yield f"  {row[at]:10.4f}  {names[at]}"


def _shortened(name: str) -> str:
    """Return a text on one line, its end left out where it is long."""
    line = " ".join(name.split())
    return line if len(line) <= WIDEST_NAME else f"{line[: WIDEST_NAME - 1]}…"
