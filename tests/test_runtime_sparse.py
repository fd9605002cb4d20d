"""What the SPLADE runtime promises: terms and weights, measured against SparseEncoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from math import log1p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from converted import workshop
from runtime_folders import merge_json, tiny_checkpoint, tiny_embedding_folder, write_json
from sparse_folders import (
    PAIR,
    SIZE,
    VOCABULARY,
    Pair,
    converted_pair,
    hand_made,
    opened,
    with_logits_graph,
    write_graph,
)
from splade_checkpoints import build_inference_free, build_splade

from retort.errors import InputError
from retort.runtime import EmbeddingModel, SparseModel, SparseVector, load
from retort.texts import validation_texts

TOLERANCE = 1e-4
ODD_TEXTS = (
    "",
    "a",
    "?!... --",
    "  spaces at both ends \n",
    "[MASK] and [SEP] and [PAD]",
    "ΟΔΥΣΣΕΥΣ UND İSTANBUL",
    "\u2603 no piece for this one: \U0001f9ff",
    "again and again and again",
    "long " * 300,
)
TEXTS = [*ODD_TEXTS, *(sample.text for sample in validation_texts())][:60]
PROMPTS = {"query": "what is ", "title": "it says: "}

VARIANTS: Mapping[str, Callable[[Path], Path]] = {
    "max relu": lambda folder: build_splade(folder, "bert", pooling="max", activation="relu"),
    "max log1p_relu": lambda folder: build_splade(
        folder, "bert", pooling="max", activation="log1p_relu"
    ),
    "sum relu": lambda folder: build_splade(folder, "bert", pooling="sum", activation="relu"),
    "sum log1p_relu": lambda folder: build_splade(
        folder, "bert", pooling="sum", activation="log1p_relu"
    ),
    "modernbert": lambda folder: build_splade(folder, "modernbert"),
    "prompted": lambda folder: build_splade(
        folder, "bert", prompts=PROMPTS, default_prompt_name="title"
    ),
    "inference-free": build_inference_free,
}
POOLINGS = ("max relu", "max log1p_relu", "sum relu", "sum log1p_relu")


@cache
def pair(variant: str) -> Pair:
    """Return the checkpoint of a row of ``VARIANTS``, converted, in both libraries."""
    return converted_pair(VARIANTS[variant](workshop() / f"sparse-{list(VARIANTS).index(variant)}"))


@cache
def logits_pair(variant: str) -> Pair:
    """Return the same with a graph that gives the logits alone."""
    return with_logits_graph(pair(variant), workshop() / f"{pair(variant).folder.name}-logits")


def assert_same(ours: list[SparseVector], theirs: torch.Tensor) -> None:
    """Compare vectors text by text: the same terms above 1e-3, and the same weights."""
    expected = theirs.to_dense().numpy()
    actual = np.zeros_like(expected)
    for row, vector in zip(actual, ours, strict=True):
        row[vector.indices] = vector.values
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    np.testing.assert_array_equal(actual > 1e-3, expected > 1e-3)


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


def test_texts_are_lowered_only_where_the_checkpoint_says_so(tmp_path: Path) -> None:
    place = build_splade(tmp_path / "cased", "modernbert")
    merge_json(place / "sentence_bert_config.json", {"do_lower_case": True})
    lowered, cased = converted_pair(place), pair("modernbert")
    texts = ["Upper CASE", "upper case"]
    assert_same(lowered.ours.encode_arrays(texts), lowered.theirs.encode(texts))
    assert lowered.ours.encode(texts[0]) == lowered.ours.encode(texts[1])
    assert cased.ours.encode(texts[0]) != cased.ours.encode(texts[1])


def test_queries_of_a_table_have_each_token_once_and_no_special_ones(folder: Path) -> None:
    weights = {"red": 2.0, "fox": 4.0, "##es": 0.5, "[SEP]": 7.0}
    write_json(folder / "query_weights.json", {"weights": weights})
    model = opened(folder)
    assert model.encode_queries("red red foxes Red") == {"fox": 4.0, "red": 2.0, "##es": 0.5}
    assert model.encode_queries(["", "dog"]) == [{}, {}]
    assert model.encode_queries("dog " * 20 + "red") == {"red": 2.0}
    assert model.encode_queries("red [SEP]") == {"[SEP]": 7.0, "red": 2.0}
    assert "blue" in model.encode_documents("red")


def test_queries_of_a_table_are_cut_at_their_own_length(tmp_path: Path) -> None:
    checkpoint = build_inference_free(tmp_path / "checkpoint")
    for part in checkpoint.glob("query_0_*"):
        merge_json(part / "tokenizer_config.json", {"model_max_length": 5})
    both = converted_pair(checkpoint)
    assert both.ours.max_length == 48
    queries = both.ours.encode_arrays(TEXTS, side="query")
    assert max(map(len, queries)) == 5
    assert_same(queries, both.theirs.encode_query(TEXTS))


def test_a_text_of_neither_side_goes_where_the_router_sends_it(tmp_path: Path) -> None:
    checkpoint = build_inference_free(tmp_path / "checkpoint")
    router = json.loads((checkpoint / "router_config.json").read_text(encoding="utf-8"))
    router["parameters"]["default_route"] = "query"
    write_json(checkpoint / "router_config.json", router)
    both = converted_pair(checkpoint)
    assert_same(both.ours.encode_arrays(TEXTS), both.theirs.encode(TEXTS))
    assert_same(both.ours.encode_arrays(TEXTS, side="document"), both.theirs.encode_document(TEXTS))


def test_a_graph_alone_is_opened_with_the_tokenizer_beside_it_or_above(folder: Path) -> None:
    expected = opened(folder).encode("red foxes")
    graph = folder / "onnx" / "model.onnx"
    assert opened(graph).encode("red foxes") == expected
    beside = folder / "other.onnx"
    shutil.copyfile(graph, beside)
    assert opened(beside).encode("red foxes") == expected
    with pytest.raises(InputError, match="is a graph itself: give its folder, or no other"):
        load(graph, "other.onnx")
    with pytest.raises(InputError, match=r"nope\.onnx is not there"):
        load(folder / "nope.onnx")


@pytest.mark.parametrize("name", ["splade-pp.onnx", "splade-pp-optimized.onnx"])
def test_a_graph_with_anserini_s_vocabulary_beside_it_is_enough(
    name: str, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "anserini"
    write_graph(place / name, PAIR)
    vocabulary = place / "splade-pp-vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    model = opened(place / name)
    texts = ["Réd foxes", "", "dog"]
    for ours, theirs in zip(model.encode(texts), opened(folder).encode(texts), strict=True):
        assert ours == pytest.approx(theirs)
    assert (model.max_length, model.dimension) == (512, SIZE)
    vocabulary.write_text("red\nblue\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"lacks \[UNK\], \[CLS\], \[SEP\], which BERT needs"):
        load(place / name)
    vocabulary.write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        load(place / name)
    vocabulary.unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        load(place / name)


@pytest.mark.parametrize("outputs", [["sparse_vector"], PAIR, ["logits", *PAIR]])
def test_graphs_without_metadata_are_recognised_by_their_outputs(
    outputs: list[str], tmp_path: Path
) -> None:
    assert isinstance(load(hand_made(tmp_path / "bare", outputs, family=None)), SparseModel)


def test_logits_alone_are_recognised_by_a_splade_pooling(tmp_path: Path) -> None:
    bare = hand_made(tmp_path / "bare", ["logits"], family=None)
    with pytest.raises(InputError, match="which are not those of"):
        load(bare)
    assert isinstance(load(logits_pair("max relu").folder), SparseModel)
    assert isinstance(load(logits_pair("inference-free").folder), SparseModel)
    embedding = tiny_embedding_folder(
        tiny_checkpoint(tmp_path / "tiny"), tmp_path / "embedding", is_pooled=True
    )
    assert isinstance(load(embedding), EmbeddingModel)


def test_a_graph_without_weights_of_terms_is_told(folder: Path) -> None:
    write_graph(folder / "onnx" / "model.onnx", ["output_idx"])
    with pytest.raises(InputError, match="has the outputs output_idx, but neither sparse_vector"):
        load(folder)


def test_a_router_without_its_table_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(logits_pair("inference-free").folder, folder)
    (folder / "query_weights.json").unlink()
    with pytest.raises(InputError, match=r"query_weights\.json is missing: convert the checkpoint"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no weights by token"),
        ({"weights": [1.0]}, "holds no weights by token"),
        ({"weights": {"cat": 1.0}}, "weighs 'cat', which is no token"),
        ({"weights": {}, "max_length": "5"}, "max_length is '5'"),
        ({"weights": {}, "max_length": 0}, "max_length is 0"),
        ({"weights": {"red": "much"}}, "the weight of 'red' is no number"),
        ({"weights": {"red": None}}, "the weight of 'red' is no number"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(
    content: dict[str, object], said: str, folder: Path
) -> None:
    write_json(folder / "query_weights.json", content)
    with pytest.raises(InputError, match=said):
        load(folder)


def test_a_pooling_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(logits_pair("max relu").folder, folder)
    config = folder / "1_SpladePooling" / "config.json"
    merge_json(config, {"pooling_strategy": "mean"})
    with pytest.raises(InputError, match="no mean of relu is known, but max or sum of relu or"):
        load(folder)
    config.unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load(folder)


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
