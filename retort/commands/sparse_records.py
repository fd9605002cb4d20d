"""Sparse vectors as ``retort encode`` prints and saves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retort.runtime import SparseModel, SparseVector
from retort.runtime.sparse_encoding import Side

Records = list[Mapping[str, Any]]


def sparse_records(
    model: SparseModel,
    texts: Mapping[Side | None, Sequence[str]],
    vectors: Mapping[Side | None, Sequence[SparseVector]],
) -> Records:
    """Return what is printed of each text, its terms in order of their weights.

    Args:
        model: Names the terms.
        texts: The texts by their side; None: of neither.
        vectors: Their vectors.
    """
    records: Records = []
    for side, rows in texts.items():
        kind = {"kind": side} if side else {}
        for text, terms in zip(rows, model.decode(vectors[side]), strict=True):
            weights = {term: round(weight, 6) for term, weight in terms.items()}
            sizes = {"shape": [model.dimension], "nonzeros": len(terms)}
            records.append({**kind, "text": text, **sizes, "terms": weights})
    return records


def sparse_arrays(vectors: Sequence[SparseVector], dimension: int) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file that ``scipy.sparse.load_npz`` reads: CSR, a row for each text.

    Args:
        vectors: The rows.
        dimension: The number of columns.
    """
    return {
        "format": np.asarray(b"csr"),
        "shape": np.asarray([len(vectors), dimension]),
        "data": np.concatenate([vector.values for vector in vectors]),
        "indices": np.concatenate([vector.indices for vector in vectors]),
        "indptr": np.cumsum([0, *map(len, vectors)]),
    }
