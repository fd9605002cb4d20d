"""How alike two sets of vectors are: larger is more alike, whatever the measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from retort.runtime.pooling import Floats, normalized


def _cosine(left: Floats, right: Floats) -> Floats:
    return normalized(left) @ normalized(right).T


def _dot(left: Floats, right: Floats) -> Floats:
    return left @ right.T


def _euclidean(left: Floats, right: Floats) -> Floats:
    # Row by row: all differences at once would need left * right * dimension numbers.
    return np.stack([-np.linalg.norm(right - row, axis=1) for row in left])


def _manhattan(left: Floats, right: Floats) -> Floats:
    return np.stack([-np.abs(right - row).sum(axis=1) for row in left])


# The names and values of sentence-transformers' SimilarityFunction.
SIMILARITIES: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}


def similarity(name: str, left: npt.ArrayLike, right: npt.ArrayLike) -> Floats:
    """Return the similarity of every row of ``left`` with every row of ``right``.

    Args:
        name: A key of :data:`SIMILARITIES`; the distances are negated.
        left: Vectors ``[n, dimension]``, or one ``[dimension]``.
        right: Vectors ``[m, dimension]``, or one ``[dimension]``.

    Returns:
        Float32 ``[n, m]``.
    """
    rows = np.atleast_2d(np.asarray(left, dtype=np.float32))
    columns = np.atleast_2d(np.asarray(right, dtype=np.float32))
    return SIMILARITIES[name](rows, columns)
