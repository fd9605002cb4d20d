"""Scores in order: the labels of a text, and the documents of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from retort.errors import InputError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelScore:
    """A label of a text.

    Attributes:
        label: Its name.
        score: Its probability, or its logit where the checkpoint is made for regression.
    """

    label: str
    score: float


class RankedDocument(TypedDict):
    """A document among those that were ranked, as sentence-transformers tells it.

    Attributes:
        corpus_id: Its place in the list that was given.
        score: Its score; larger is better.
        text: The document, if it was asked for.
    """

    corpus_id: int
    score: float
    text: NotRequired[str]


def best_first(labels: Sequence[str], scores: Floats) -> list[LabelScore]:
    """Return each label with its score, in descending order; equal ones as they were."""
    return [LabelScore(labels[index], float(scores[index])) for index in _order(scores)]


def ranked(
    scores: Floats, documents: Sequence[str], top_k: int | None, *, return_documents: bool
) -> list[RankedDocument]:
    """Return documents in descending order of their scores; equal ones as they were.

    Args:
        scores: Float32 ``[documents]``.
        documents: Their texts.
        top_k: How many to return; None: all.
        return_documents: Whether to return their texts as well.
    """
    results: list[RankedDocument] = []
    for index in _order(scores)[:top_k]:
        result = RankedDocument(corpus_id=index, score=float(scores[index]))
        if return_documents:
            result["text"] = documents[index]
        results.append(result)
    return results


def ranked_positions(scores: Floats, top_k: int | None) -> list[tuple[int, float]]:
    """Return the documents' positions and scores for one query, the best first.

    Args:
        scores: Float32 ``[1, documents]``.
        top_k: How many to return; None: all.

    Raises:
        InputError: There is more than one query.
    """
    if len(scores) != 1:
        raise InputError(f"rank takes one query, not {len(scores)}: use score")
    return [(index, float(scores[0, index])) for index in _order(scores[0])[:top_k]]


def check_top_k(top_k: int | None) -> None:
    """Refuse a number of results that is none.

    Raises:
        InputError: It is less than 1.
    """
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k must be at least 1, not {top_k}")


def _order(scores: Floats) -> list[int]:
    return np.argsort(-scores, kind="stable").tolist()
