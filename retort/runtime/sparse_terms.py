"""Sparse vectors with the names of their terms, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from retort.errors import InputError
from retort.runtime.sparse_tokenizer import SparseTokenizer
from retort.runtime.sparse_vectors import SparseVector

Terms = dict[str, float]
Weights = Mapping[str, float] | SparseVector


def terms_of(vector: SparseVector, tokenizer: SparseTokenizer) -> Terms:
    """Return ``{term: weight}``, the largest weight first, of equal ones the lower id."""
    order = np.argsort(-vector.values, kind="stable")
    pairs = zip(vector.indices[order].tolist(), vector.values[order].tolist(), strict=True)
    return {tokenizer.term(index): weight for index, weight in pairs}


def vectors_of(weights: object, name: str, tokenizer: SparseTokenizer) -> list[SparseVector]:
    """Return weights as a list of vectors; those of one text become a list of one.

    Args:
        weights: A ``SparseVector`` or ``{term: weight}``, or several.
        name: What to call them in an error.
        tokenizer: Knows the ids of the terms.

    Raises:
        InputError: Something is neither, or a term is unknown.
    """
    if isinstance(weights, SparseVector | Mapping):
        return [_vector(weights, name, tokenizer)]
    if isinstance(weights, str | bytes) or not isinstance(weights, Iterable):
        raise _unusable(weights, name)
    return [_vector(one, f"{name} {index}", tokenizer) for index, one in enumerate(weights)]


def _vector(weights: object, name: str, tokenizer: SparseTokenizer) -> SparseVector:
    if isinstance(weights, SparseVector):
        return weights
    if not isinstance(weights, Mapping):
        raise _unusable(weights, name)
    ids = [tokenizer.term_id(term) for term in weights]
    try:
        return SparseVector.of_pairs(ids, list(weights.values()))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds no weights ({error}): encode it first") from error


def _unusable(weights: object, name: str) -> InputError:
    kind = type(weights).__name__
    return InputError(f"{name}: give the weights of terms, not {kind}: encode it first")
