"""Pairs of texts, which a cross-encoder reads together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retort.errors import InputError
from retort.runtime.activations import is_cross_encoder
from retort.runtime.batching import check_text

Pair = tuple[str, str]
Row = str | Pair

ENTAILMENT = "entail"  # how the label begins, in whatever case, by which transformers finds it


def check_pair(pair: object, name: str = "the pair") -> Pair:
    """Return a pair as a tuple.

    Raises:
        InputError: It is not two ``str``.
    """
    texts = list(pair) if isinstance(pair, Sequence) and not isinstance(pair, str | bytes) else []
    if len(texts) != 2:
        raise InputError(f"{name} must be two texts, such as (query, document)")
    return check_text(texts[0], f"{name}, first text"), check_text(texts[1], f"{name}, second text")


def check_pairs(pairs: object) -> list[Pair]:
    """Return pairs as tuples.

    Raises:
        InputError: They are not a sequence of pairs of ``str``.
    """
    return [check_pair(pair, f"pair {index}") for index, pair in enumerate(_several(pairs))]


def check_rows(rows: object) -> list[Row]:
    """Return texts and pairs, these as tuples.

    Raises:
        InputError: They are not a sequence of ``str`` and pairs of them.
    """
    return [
        row if isinstance(row, str) else check_pair(row, f"text {index}")
        for index, row in enumerate(_several(rows))
    ]


def entailment_id(labels: Sequence[str]) -> int | None:
    """Return the id of the label of entailment, by which natural language inference is known."""
    ids = (index for index, label in enumerate(labels) if label.lower().startswith(ENTAILMENT))
    return next(ids, None)


def reads_pairs(config: Mapping[str, Any], labels: Sequence[str]) -> bool:
    """Tell whether a classifier is made for pairs: to rank, or for natural language inference.

    Args:
        config: The content of ``config.json``.
        labels: The labels by id.
    """
    return len(labels) == 1 or is_cross_encoder(config) or entailment_id(labels) is not None


def _several(items: object) -> Iterable[object]:
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InputError(f"give a sequence of pairs or texts, not {type(items).__name__}")
    return items
