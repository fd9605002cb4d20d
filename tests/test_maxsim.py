"""MaxSim: the sum over query tokens of the best dot product with a document's tokens."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from retort.errors import InputError
from retort.runtime.maxsim import BLOCK, maxsim

Array = npt.NDArray[np.float32]

MIB = 1 << 20


def token_embeddings(lengths: list[int], seed: int, dim: int = 4) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(length, dim)).astype(np.float32) for length in lengths]


def by_definition(queries: list[Array], documents: list[Array]) -> list[list[float]]:
    return [
        [sum(max(token @ other for other in document) for token in query) for document in documents]
        for query in queries
    ]


def test_it_is_the_sum_of_the_best_products_even_where_all_are_negative() -> None:
    queries, documents = token_embeddings([3, 1, 5], 1), token_embeddings([2, 7, 1, 4], 2)
    queries.append(-np.ones((2, 4), np.float32))
    documents.append(np.ones((3, 4), np.float32))
    scores = maxsim(queries, documents)
    assert scores.dtype == np.float32
    assert scores[-1, -1] == -8
    np.testing.assert_allclose(scores, by_definition(queries, documents), atol=1e-5)


def test_more_tokens_than_fit_a_block_change_nothing() -> None:
    lengths = [BLOCK - 1, 1, 1, BLOCK + 1, 0, 700, 700, 700, 700]
    queries, documents = token_embeddings(lengths, 3), token_embeddings(lengths[::-1], 4)
    scores = maxsim(queries, documents)
    one_by_one = [[maxsim(query, document).item() for document in documents] for query in queries]
    np.testing.assert_allclose(scores, one_by_one, atol=1e-2)
    (query, document) = queries[1], documents[-1]
    np.testing.assert_allclose(scores[1, -1], (query @ document.T).max(), rtol=1e-5)


def test_little_memory_is_needed_beside_the_scores() -> None:
    queries, documents = token_embeddings([32] * 128, 5), token_embeddings([40] * 400, 6)
    tracemalloc.start()
    maxsim(queries, documents)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * MIB < 128 * 32 * 400 * 40 * 4


def test_one_matrix_stands_for_a_list_of_one_and_arrays_for_lists() -> None:
    queries, documents = token_embeddings([3, 3], 7), token_embeddings([2, 2], 8)
    scores = maxsim(queries, documents)
    np.testing.assert_array_equal(maxsim(queries[0], documents), scores[:1])
    np.testing.assert_array_equal(maxsim(np.stack(queries), np.stack(documents)), scores)
    nested = [matrix.tolist() for matrix in queries]
    np.testing.assert_array_equal(maxsim(nested, tuple(documents)), scores)


def test_what_has_no_tokens_scores_nothing() -> None:
    full, empty = token_embeddings([3, 2], 9), np.zeros((0, 4), np.float32)
    scores = maxsim([full[0], empty], [empty, full[1]])
    assert scores[0, 1] != 0
    assert (scores[0, 0], scores[1, 0], scores[1, 1]) == (0, 0, 0)
    assert maxsim([], full).shape == (0, 2)
    assert maxsim(full, []).shape == (2, 0)


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        ("a text", "query: give token embeddings"),
        (["a text"], "query 0 is a text: encode it first"),
        (None, r"query: .*not NoneType"),
        ([np.zeros(4)], r"query 0 has the shape \[4\]"),
        ([[["a", "b"]]], "query 0 holds no numbers"),
        ([np.zeros((2, 5))], "dimensions 4, 5"),
    ],
)
def test_what_is_no_matrix_of_tokens_is_refused(queries: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        maxsim(queries, token_embeddings([2, 3], 10))
