"""Which terms of a text are kept, and how queries and documents are scored by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_folders import write_json
from sparse_folders import hand_made, opened
from sparse_pairs import TEXTS, assert_same, pair

from retort.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of one's own, whose graph gives the logits by hand."""
    return hand_made(tmp_path / "model", ["logits"])


@pytest.mark.parametrize("top_k", [1, 5, 10_000])
def test_top_k_keeps_the_terms_that_sparse_encoder_keeps(top_k: int) -> None:
    both = pair("max relu")
    kept = both.ours.encode_arrays(TEXTS, top_k=top_k)
    assert_same(kept, both.theirs.encode(TEXTS, max_active_dims=top_k))
    assert max(map(len, kept)) <= top_k


def test_weights_up_to_the_threshold_are_left_out(folder: Path) -> None:
    model = opened(folder)
    terms = model.encode("red foxes")
    bound = terms["dog"]
    assert list(model.encode("red foxes", threshold=bound)) == ["fox", "red", "blue"]
    assert list(model.encode("red foxes", threshold=bound - 1e-3)) == ["fox", "red", "blue", "dog"]
    assert list(model.encode("red foxes", threshold=bound, top_k=2)) == ["fox", "red"]
    assert model.encode("red foxes", threshold=9) == {}
    assert model.encode_queries("red foxes", top_k=1) == {"fox": terms["fox"]}
    assert model.encode_documents(["red foxes"], threshold=1.6) == [{"fox": terms["fox"]}]


def test_of_equal_weights_the_lower_id_goes_first_and_is_kept(folder: Path) -> None:
    write_json(folder / "query_weights.json", {"weights": {"dog": 2.0, "red": 2.0, "fox": -3.0}})
    model = opened(folder)
    assert list(model.encode_queries("fox dog red")) == ["red", "dog", "fox"]
    assert model.encode_queries("fox dog red", top_k=2) == {"red": 2.0, "fox": -3.0}


def test_scores_are_the_similarity_of_sparse_encoder() -> None:
    for variant in ("max relu", "inference-free"):
        both = pair(variant)
        queries, documents = TEXTS[:9], TEXTS
        expected = both.theirs.similarity(
            both.theirs.encode_query(queries).to_dense(),
            both.theirs.encode_document(documents).to_dense(),
        )
        ours = both.ours.encode_queries(queries), both.ours.encode_documents(documents)
        scores = both.ours.score(*ours)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, atol=1e-3, rtol=1e-5)
        arrays = both.ours.encode_arrays(queries, side="query")
        np.testing.assert_allclose(both.ours.score(arrays, ours[1]), scores, rtol=1e-5)


def test_scores_of_more_queries_than_are_taken_at_once_are_the_same() -> None:
    model = pair("max relu").ours
    vectors = model.encode_arrays([text[:30] for text in TEXTS] * 3)
    assert len(vectors) > 2 * 64
    scores = model.score(vectors, vectors[:2])
    alone = np.concatenate([model.score(vector, vectors[:2]) for vector in vectors])
    np.testing.assert_allclose(scores, alone, rtol=1e-5)


def test_a_text_without_terms_scores_nothing(folder: Path) -> None:
    model = opened(folder)
    np.testing.assert_array_equal(model.score({}, [{}, {"red": 2.0}]), [[0, 0]])
    np.testing.assert_array_equal(model.score([{"red": 2.0}, {}], {"red": 3.0}), [[6], [0]])
    assert model.score([], [{"red": 1.0}]).shape == (0, 1)


def test_rank_gives_positions_and_scores_the_best_first(folder: Path) -> None:
    model = opened(folder)
    documents = [{"red": 1.0}, {"dog": 9.0}, {"blue": 3.0, "red": 1.0}, {"red": 1.0}]
    query = {"red": 2.0, "blue": 1.0}
    ranked = model.rank(query, documents)
    assert ranked == [(2, 5.0), (0, 2.0), (3, 2.0), (1, 0.0)]
    assert model.rank(query, documents, top_k=2) == ranked[:2]
    with pytest.raises(InputError, match="rank takes one query, not 2"):
        model.rank([query, query], documents)
    with pytest.raises(InputError, match="top_k must be at least 1, not 0"):
        model.rank(query, documents, top_k=0)


@pytest.mark.parametrize("weights", ["red", ["red"], 3, [3], b"red", [{"red": "much"}]])
def test_what_are_no_weights_is_not_scored(weights: Any, folder: Path) -> None:
    with pytest.raises(InputError, match=r"documents?( 0)?.*: encode it first"):
        opened(folder).score({"red": 1.0}, weights)


def test_terms_of_another_vocabulary_are_not_scored(folder: Path) -> None:
    with pytest.raises(InputError, match="has no term 'cat'"):
        opened(folder).score({"cat": 1.0}, {"red": 1.0})


def test_ids_beyond_the_tokenizer_have_names_too(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    del content["model"]["vocab"]["dog"]
    write_json(folder / "tokenizer.json", content)
    model = opened(folder)
    assert list(model.encode("fox")) == ["fox", "#9", "green"]
    (vector,) = model.encode_arrays("fox")
    np.testing.assert_array_equal(
        model.score(model.encode("fox"), vector), model.score(vector, vector)
    )
