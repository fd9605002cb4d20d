"""MaxSim, the score of late interaction (Khattab and Zaharia 2020), in numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from retort.errors import InputError

Floats = npt.NDArray[np.float32]

MATRIX = 2
# Tokens taken together of either side, so that 16 MiB of dot products are held at once.
BLOCK = 2048


def maxsim(queries: object, documents: object) -> Floats:
    """Return, for every query and document, the sum over query tokens of the best dot product.

    Args:
        queries: Token embeddings ``[tokens, dim]`` of each query, or of a single one.
        documents: The same of the documents.

    Returns:
        Float32 ``[queries, documents]``. A query or a document without tokens scores 0, as
        where PyLate pads it with zeros.

    Raises:
        InputError: Something is no matrix of numbers, or the dimensions differ.
    """
    rows = token_matrices(queries, "query")
    columns = token_matrices(documents, "document")
    _check_dimensions([*rows, *columns])
    scores = np.zeros((len(rows), len(columns)), dtype=np.float32)
    full_rows = [index for index, matrix in enumerate(rows) if len(matrix)]
    full_columns = [index for index, matrix in enumerate(columns) if len(matrix)]
    for left in _blocks(rows, full_rows):
        for right in _blocks(columns, full_columns):
            block = _block_scores([rows[i] for i in left], [columns[i] for i in right])
            scores[np.ix_(left, right)] = block
    return scores


def token_matrices(values: object, name: str) -> list[Floats]:
    """Return token embeddings as a list of float32 matrices; one matrix becomes a list of one.

    Raises:
        InputError: Something is no matrix of numbers.
    """
    if isinstance(values, np.ndarray) and values.ndim == MATRIX:
        return [_matrix(values, name)]
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        kind = type(values).__name__
        raise InputError(f"{name}: give token embeddings [tokens, dim], not {kind}: encode it")
    return [_matrix(value, f"{name} {index}") for index, value in enumerate(values)]


def _matrix(value: object, name: str) -> Floats:
    if isinstance(value, str | bytes):
        raise InputError(f"{name} is a text: encode it first")
    try:
        matrix = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds no numbers ({error}): encode it first") from error
    if matrix.ndim != MATRIX:
        raise InputError(f"{name} has the shape {list(matrix.shape)}: give [tokens, dim]")
    return matrix


def _check_dimensions(matrices: Sequence[Floats]) -> None:
    dimensions = sorted({matrix.shape[1] for matrix in matrices if len(matrix)})
    if len(dimensions) > 1:
        raise InputError(
            f"token embeddings have the dimensions {', '.join(map(str, dimensions))}: encode "
            "queries and documents with one model"
        )


def _blocks(matrices: Sequence[Floats], chosen: Sequence[int]) -> Iterator[list[int]]:
    """Yield runs of the chosen positions, of one matrix or of at most ``BLOCK`` tokens."""
    block: list[int] = []
    tokens = 0
    for index in chosen:
        if block and tokens + len(matrices[index]) > BLOCK:
            yield block
            block, tokens = [], 0
        block.append(index)
        tokens += len(matrices[index])
    if block:
        yield block


def _block_scores(queries: Sequence[Floats], documents: Sequence[Floats]) -> Floats:
    similar = np.concatenate(documents) @ np.concatenate(queries).T
    # Document by document: np.maximum.reduceat takes 15 times as long.
    best = np.stack([rows.max(axis=0) for rows in np.split(similar, _ends(documents))])
    return np.stack([columns.sum(axis=1) for columns in np.split(best, _ends(queries), axis=1)])


def _ends(matrices: Sequence[Floats]) -> npt.NDArray[np.int64]:
    """Return where each matrix but the last ends when they are stacked."""
    return np.cumsum([len(matrix) for matrix in matrices[:-1]], dtype=np.int64)
