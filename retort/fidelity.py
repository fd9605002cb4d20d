"""How close two results are, in numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Distance:
    """How far a graph is from PyTorch on one text, as ``--verify`` tells it.

    Attributes:
        name: What is measured.
        value: The figure.
        limit: What an fp32 file must not exceed.
    """

    name: str
    value: float
    limit: float


def row_cosines(expected: Array, actual: Array) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of two ``[rows, dim]`` arrays; of two zero rows it is 1."""
    left, right = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    norms = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    both_zero = ~left.any(axis=-1) & ~right.any(axis=-1)
    products = (left * right).sum(axis=-1) / np.where(norms == 0, 1, norms)
    return np.where(both_zero, 1.0, products)


def token_cosines(expected: Array, actual: Array, mask: Array) -> npt.NDArray[np.float64]:
    """Return each text's mean cosine over its real tokens, from ``[batch, sequence, dim]``."""
    cosines = row_cosines(expected, actual)
    return (cosines * mask).sum(axis=-1) / np.maximum(mask.sum(axis=-1), 1)


def tag_agreement(expected: Array, actual: Array, mask: Array) -> npt.NDArray[np.float64]:
    """Return each text's share of real tokens whose best label is the same in both logits."""
    same = (expected.argmax(axis=-1) == actual.argmax(axis=-1)) & np.isfinite(actual).all(axis=-1)
    return (same * mask).sum(axis=-1) / np.maximum(mask.sum(axis=-1), 1)


def largest_difference(
    expected: Mapping[str, Array], actual: Mapping[str, Array], mask: Array
) -> float:
    """Return the largest difference over all outputs and real tokens, padding left out.

    Where an output's values exceed 1 the difference is relative to its largest value. NaN or
    infinity, in either, counts as infinitely far.
    """
    worst = 0.0
    for name, values in expected.items():
        real = mask.astype(bool) if values.shape[:2] == mask.shape and values.ndim > 2 else ...
        wanted, got = values[real].astype(np.float64), actual[name][real].astype(np.float64)
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        difference = float(np.abs(wanted - got).max(initial=0.0)) / scale
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst
