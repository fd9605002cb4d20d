"""The terms and weights of the SPLADE runtime, measured against SparseEncoder."""

from __future__ import annotations

from math import log1p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_folders import merge_json, write_json
from sparse_folders import PAIR, SIZE, VOCABULARY, converted_pair, hand_made, opened
from sparse_pairs import (
    POOLINGS,
    PROMPTS,
    TEXTS,
    TOLERANCE,
    VARIANTS,
    assert_same,
    logits_pair,
    pair,
)
from splade_checkpoints import build_splade

from retort.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of one's own, whose graph gives the logits by hand."""
    return hand_made(tmp_path / "model", ["logits"])


def test_a_text_has_its_terms_with_their_weights_the_largest_first(folder: Path) -> None:
    terms = opened(folder).encode("Red foxes")
    expected = {
        "fox": log1p(4.5),  # the larger one of fox and ##es
        "red": log1p(3),
        "blue": log1p(1),
        "dog": log1p(0.5),
        "green": log1p(0.25),  # which [CLS] says, as of every text
        "##es": log1p(0.125),
    }
    assert list(terms) == list(expected)
    assert terms == pytest.approx(expected)


def test_arrays_are_in_the_order_of_the_ids(folder: Path) -> None:
    (vector,) = opened(folder).encode_arrays(["blue"])
    assert [VOCABULARY[index] for index in vector.indices] == ["red", "blue", "green"]
    np.testing.assert_allclose(vector.values, np.log1p([1, 2, 0.25]), rtol=1e-6)
    assert (vector.indices.dtype, vector.values.dtype) == (np.int64, np.float32)
    assert len(vector) == 3


def test_one_text_gives_one_result_and_several_a_list_in_their_order(folder: Path) -> None:
    model = opened(folder)
    texts = ["dog", "red blue fox", "red"]
    assert model.encode(texts) == [model.encode(text) for text in texts]
    assert model.encode([]) == model.encode_arrays([]) == []
    (alone,) = model.encode_arrays("dog")
    (first, *_) = model.encode_arrays(texts)
    np.testing.assert_array_equal(alone.indices, first.indices)


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize(
    "outputs", [["sparse_vector"], PAIR, ["logits", *PAIR], ["logits", *PAIR, "sparse_vector"]]
)
def test_every_output_of_a_graph_gives_the_same_terms(
    outputs: list[str], batch_size: int, folder: Path, tmp_path: Path
) -> None:
    texts = ["red blue fox", "", "dog", "foxes red red", "blue"]
    model = opened(hand_made(tmp_path / "other", outputs))
    expected = opened(folder).encode(texts)
    for ours, logits in zip(model.encode(texts, batch_size=batch_size), expected, strict=True):
        assert ours == pytest.approx(logits)
    assert model.dimension == SIZE


@pytest.mark.parametrize("variant", VARIANTS)
def test_encode_equals_that_of_sparse_encoder(variant: str) -> None:
    both = pair(variant)
    assert_same(both.ours.encode_arrays(TEXTS), both.theirs.encode(TEXTS))
    assert both.ours.max_length == 48


@pytest.mark.parametrize("variant", [*POOLINGS, "inference-free"])
def test_logits_are_pooled_as_the_checkpoint_says(variant: str) -> None:
    both = logits_pair(variant)
    assert_same(both.ours.encode_arrays(TEXTS), both.theirs.encode(TEXTS))


@pytest.mark.parametrize("variant", ["max relu", "prompted", "inference-free"])
def test_queries_and_documents_equal_those_of_sparse_encoder(variant: str) -> None:
    both = pair(variant)
    queries = both.ours.encode_arrays(TEXTS, side="query")
    assert_same(queries, both.theirs.encode_query(TEXTS))
    documents = both.ours.encode_arrays(TEXTS, side="document")
    assert_same(documents, both.theirs.encode_document(TEXTS))


@pytest.mark.parametrize("variant", ["max relu", "sum log1p_relu", "inference-free"])
def test_the_terms_are_those_that_sparse_encoder_decodes(variant: str) -> None:
    both, text = pair(variant), "the quick brown fox"
    for ours, theirs in (
        (both.ours.encode(text), both.theirs.encode(text)),
        (both.ours.encode_queries(text), both.theirs.encode_query(text)),
        (both.ours.encode_documents(text), both.theirs.encode_document(text)),
    ):
        decoded = dict(both.theirs.decode(theirs))
        assert list(ours.values()) == sorted(ours.values(), reverse=True)
        assert ours == pytest.approx(decoded, abs=TOLERANCE)


def test_the_vectors_do_not_depend_on_the_batch() -> None:
    model = pair("max relu").ours
    alone = [vector for text in TEXTS for vector in model.encode_arrays(text)]
    together = model.encode_arrays(TEXTS, batch_size=7)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_allclose(one.values, other.values, atol=TOLERANCE)


def test_prompts_are_chosen_as_in_sparse_encoder() -> None:
    both = pair("prompted")
    assert both.ours.prompts == {**PROMPTS, "document": ""}
    for options in ({"prompt_name": "query"}, {"prompt": "  Say "}, {"prompt": ""}):
        assert_same(both.ours.encode_arrays(TEXTS, **options), both.theirs.encode(TEXTS, **options))
        assert_same(
            both.ours.encode_arrays(TEXTS, side="query", **options),
            both.theirs.encode_query(TEXTS, **options),
        )
    with pytest.raises(InputError, match="no prompt 'passage': choose from query, document, title"):
        both.ours.encode("text", prompt_name="passage")


def test_a_prompt_shows_in_the_terms() -> None:
    model = pair("prompted").ours
    found = [model.encode("fox", prompt_name=name) for name in ("query", "document", "title")]
    assert found[0] != found[1] != found[2] != found[0]
    assert model.encode_queries("fox") == found[0]
    assert model.encode_documents("fox") == found[1]
    assert model.encode("fox") == found[2]


def test_texts_are_lowered_only_where_the_checkpoint_says_so(tmp_path: Path) -> None:
    place = build_splade(tmp_path / "cased", "modernbert")
    merge_json(place / "sentence_bert_config.json", {"do_lower_case": True})
    lowered, cased = converted_pair(place), pair("modernbert")
    texts = ["Upper CASE", "upper case"]
    assert_same(lowered.ours.encode_arrays(texts), lowered.theirs.encode(texts))
    assert lowered.ours.encode(texts[0]) == lowered.ours.encode(texts[1])
    assert cased.ours.encode(texts[0]) != cased.ours.encode(texts[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 0}, "top_k must be at least 1, not 0"),
        ({"threshold": -0.1}, r"threshold must be at least 0, not -0\.1"),
        ({"threshold": float("nan")}, "threshold must be at least 0, not nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"prompt": 3}, "the prompt must be a str"),
    ],
)
@pytest.mark.parametrize("outputs", [["logits"], PAIR])
def test_unusable_options_are_told(
    options: dict[str, Any], said: str, outputs: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        opened(hand_made(tmp_path / "model", outputs)).encode("red", **options)


def test_an_unknown_side_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match="no side 'passage': choose from query, document and None"):
        opened(folder).encode_arrays(["red"], side="passage")  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [None, 3, b"bytes", ["good", None], ["half \ud83d"]])
def test_what_is_not_a_text_is_refused(texts: Any, folder: Path) -> None:
    write_json(folder / "query_weights.json", {"weights": {"red": 1.0}})
    model = opened(folder)
    for encode in (model.encode, model.encode_queries, model.encode_arrays):
        with pytest.raises(InputError, match=r"str|surrogate"):
            encode(texts)
