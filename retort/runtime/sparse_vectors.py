"""Sparse vectors: the weights of a text's terms, cut down and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.pooling import Floats
from retort.runtime.scores import check_top_k

Ids = npt.NDArray[np.int64]

# Queries that are spread over the vocabulary at once: 8 MiB for BERT's.
BLOCK = 64


@dataclass(frozen=True, eq=False)
class SparseVector:
    """The terms of a text whose weight is not 0.

    Attributes:
        indices: The terms' ids, int64 ``[n]``, ascending.
        values: Their weights, float32 ``[n]``.
    """

    indices: Ids
    values: Floats

    @classmethod
    def of_row(cls, row: Floats) -> SparseVector:
        """Return what is not 0 in a vector ``[vocabulary]``."""
        indices = np.flatnonzero(row)
        return cls(indices, row[indices])

    @classmethod
    def of_pairs(cls, indices: npt.ArrayLike, values: npt.ArrayLike) -> SparseVector:
        """Return the vector of these ids, each given once, in any order, and their weights."""
        ids = np.asarray(indices, dtype=np.int64)
        weights = np.asarray(values, dtype=np.float32)
        order = np.argsort(ids)
        order = order[weights[order] != 0]
        return cls(ids[order], weights[order])

    def pruned(self, top_k: int | None, threshold: float) -> SparseVector:
        """Return the vector without its least weights, signs aside.

        Args:
            top_k: How many terms are kept at most, of equal weights those of lower ids; None: all.
            threshold: Weights up to this one are left out.
        """
        sizes = np.abs(self.values)
        kept = np.flatnonzero(sizes > threshold)
        if top_k is not None and len(kept) > top_k:
            largest = np.argsort(-sizes[kept], kind="stable")[:top_k]
            kept = np.sort(kept[largest])
        return SparseVector(self.indices[kept], self.values[kept])

    def __len__(self) -> int:
        return len(self.indices)


def check_pruning(top_k: int | None, threshold: float) -> None:
    """Refuse bounds that no vector can be cut down to.

    Raises:
        InputError: ``top_k`` is less than 1, or ``threshold`` is less than 0.
    """
    check_top_k(top_k)
    if not threshold >= 0:
        raise InputError(f"threshold must be at least 0, not {threshold}")


def dot_products(queries: Sequence[SparseVector], documents: Sequence[SparseVector]) -> Floats:
    """Return the dot product of every query with every document, float32 ``[queries, documents]``.

    Only one block of queries is ever spread over the vocabulary, and no document.
    """
    scores = np.zeros((len(queries), len(documents)), dtype=np.float32)
    vectors = [*queries, *documents]
    dimension = max((int(vector.indices[-1]) + 1 for vector in vectors if len(vector)), default=0)
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        columns = np.zeros((dimension, len(block)), dtype=np.float32)
        for column, query in enumerate(block):
            columns[query.indices, column] = query.values
        for row, document in enumerate(documents):
            scores[start : start + BLOCK, row] = document.values @ columns[document.indices]
    return scores
