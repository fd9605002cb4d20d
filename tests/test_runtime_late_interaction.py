"""What the ColBERT runtime promises, measured against PyLate."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from colbert_checkpoints import EMBEDDING_DIM, build_colbert
from colbert_references import (
    PROMPTS,
    TEXTS,
    TOLERANCE,
    VARIANTS,
    assert_same,
    made_pair,
    opened,
    pair,
)
from pylate.models import ColBERT
from pylate.rank import rerank
from pylate.scores import colbert_scores
from runtime_folders import export_graph, merge_json, write_json
from torch import nn

from retort.errors import InputError
from retort.runtime import EmbeddingModel, LateInteractionModel, load

# A setting that changes nothing that is compared would be tested in vain.
VARIANTS_OF = {
    "bert": (
        "bert on the left",
        "two Dense",
        "prefix-free",
        "attending",
        "unexpanded",
        "other lengths",
        "skipping words",
        "prompted",
    ),
    "cased": ("lowered",),
    "qwen3, padded on the left": ("qwen3, on the right", "left and attending"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_queries_and_documents_equal_those_of_pylate(variant: str) -> None:
    both = pair(variant)
    assert_same(both.ours.encode_queries(TEXTS), both.theirs.encode(TEXTS, is_query=True))
    assert_same(both.ours.encode_documents(TEXTS), both.theirs.encode(TEXTS, is_query=False))


@pytest.mark.parametrize(
    ("first", "second"), [(first, one) for first, row in VARIANTS_OF.items() for one in row]
)
def test_every_setting_compared_shows_in_the_embeddings(first: str, second: str) -> None:
    def embeddings(variant: str) -> list[np.ndarray]:
        model = pair(variant).ours
        return [*model.encode_queries(TEXTS), *model.encode_documents(TEXTS)]

    assert any(
        one.shape != other.shape or np.abs(one - other).max() > 0.01
        for one, other in zip(embeddings(first), embeddings(second), strict=True)
    )


def test_one_text_gives_one_array_and_several_a_list_in_their_order() -> None:
    model = pair("bert").ours
    (query,) = model.encode_queries(["one two"])
    np.testing.assert_allclose(model.encode_queries("one two"), query, atol=TOLERANCE)
    assert query.shape == (model.query_length, model.dimension) == (16, EMBEDDING_DIM)
    assert model.document_length == 40
    short, long = model.encode_documents(["one", "one two three four five"])
    assert len(short) < len(long)
    assert model.encode_queries([]) == model.encode_documents([]) == []


def test_embeddings_do_not_depend_on_the_batch_where_the_padding_is_on_the_right() -> None:
    model = pair("bert").ours
    one_by_one = [model.encode_documents(text) for text in TEXTS]
    assert_same(model.encode_documents(TEXTS, batch_size=3), one_by_one)


def test_texts_of_equal_length_share_batches_as_in_pylate_which_left_padding_shows() -> None:
    texts = [f"{first}{second} {first}" for first in "abcdefgh" for second in "!aé1語"]
    both = pair("qwen3, padded on the left")
    documents = both.ours.encode_documents(texts, batch_size=4)
    assert_same(documents, both.theirs.encode(texts, is_query=False, batch_size=4))
    alone = np.concatenate([both.ours.encode_documents(text) for text in texts])
    assert np.abs(np.concatenate(documents) - alone).max() > 0.01


@pytest.mark.parametrize("variant", ["bert", "modernbert", "qwen3, on the right"])
def test_a_prefix_within_a_text_is_the_token_that_it_is_to_pylate(variant: str) -> None:
    both, texts = pair(variant), ["[Q] [D] a", "tag[Q] b", "[q] [D]"]
    assert_same(both.ours.encode_documents(texts), both.theirs.encode(texts, is_query=False))


def test_prompts_are_chosen_as_in_pylate() -> None:
    both = pair("prompted")
    assert both.ours.prompts == {**PROMPTS, "document": ""}
    for options in ({"prompt_name": "query"}, {"prompt": "  Say "}, {"prompt": ""}):
        for is_query in (True, False):
            encode = both.ours.encode_queries if is_query else both.ours.encode_documents
            expected = both.theirs.encode(TEXTS, is_query=is_query, **options)
            assert_same(encode(TEXTS, **options), expected)
    with pytest.raises(InputError, match="no prompt 'title': choose from query, document, passage"):
        both.ours.encode_queries("text", prompt_name="title")


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
def test_lengths_beyond_the_positions_are_cut_to_them(
    architecture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = build_colbert(
        tmp_path / "long", architecture, query_length=200, document_length=600
    )
    with caplog.at_level(logging.WARNING, "retort"):
        both = made_pair(checkpoint, query_length=128, document_length=128)
    assert "query_length is 200, but the model takes 128 tokens" in caplog.text
    assert both.ours.query_length == both.ours.document_length == 128
    assert_same(both.ours.encode_queries(TEXTS), both.theirs.encode(TEXTS, is_query=True))
    assert_same(both.ours.encode_documents(TEXTS), both.theirs.encode(TEXTS, is_query=False))


def test_words_of_the_skiplist_that_nothing_stands_for_are_passed_over(tmp_path: Path) -> None:
    # This tokenizer knows no unknown token, and PyLate stops at such a word.
    words = [".", "nosuchword"]
    checkpoint = build_colbert(tmp_path / "llama", "llama", skiplist_words=words)
    both = made_pair(checkpoint, skiplist_words=["."])
    assert_same(both.ours.encode_documents(TEXTS), both.theirs.encode(TEXTS, is_query=False))


def test_a_document_all_of_whose_tokens_are_skipped_scores_nothing(tmp_path: Path) -> None:
    words = ["[CLS]", "[SEP]", "[D] ", "!"]
    checkpoint = build_colbert(tmp_path / "bare", "bert", skiplist_words=words)
    both = made_pair(checkpoint)
    documents = both.ours.encode_documents(["!", "some text", "! !"])
    assert [len(tokens) == 0 for tokens in documents] == [True, False, True]
    assert_same(documents, both.theirs.encode(["!", "some text", "! !"], is_query=False))
    query = both.ours.encode_queries("text")
    ((_, score), *others) = both.ours.rank(query, documents)
    assert score > 0
    assert others == [(0, 0.0), (2, 0.0)]


def test_scores_are_those_of_pylate() -> None:
    both = pair("unexpanded")
    queries, documents = both.ours.encode_queries(TEXTS[:9]), both.ours.encode_documents(TEXTS)
    scores = both.ours.score(queries, documents)
    expected = [
        [colbert_scores(query[None], document[None]).item() for document in documents]
        for query in queries
    ]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=TOLERANCE)
    np.testing.assert_allclose(both.ours.score(queries[2], documents[3]), [[expected[2][3]]])


def test_rank_gives_positions_and_scores_the_best_first_as_pylate_does() -> None:
    both = pair("bert")
    query = both.ours.encode_queries(TEXTS[9])
    # Of equal length: PyLate pads the others with zeros, which can be better than what is there.
    documents = [tokens[:3] for tokens in both.ours.encode_documents(TEXTS)]
    (expected,) = rerank([list(range(len(TEXTS)))], [query], [documents])
    ranked = both.ours.rank(query, documents)
    scores = {row["id"]: row["score"] for row in expected}
    # By rounding alone, two of equal scores may change places.
    found = [scores[index] for index, _ in ranked]
    np.testing.assert_allclose(found, sorted(scores.values(), reverse=True), rtol=1e-6)
    np.testing.assert_allclose(
        [score for _, score in ranked], [row["score"] for row in expected], atol=TOLERANCE
    )
    assert both.ours.rank(query, documents, top_k=3) == ranked[:3]
    with pytest.raises(InputError, match="top_k must be at least 1, not 0"):
        both.ours.rank(query, documents, top_k=0)
    with pytest.raises(InputError, match="rank takes one query, not 2"):
        both.ours.rank([query, query], documents)


class OldExport(nn.Module):
    """What ``pylate-onnx-export`` traces: backbone, projection, unit length; typed inputs."""

    def __init__(self, model: ColBERT) -> None:
        super().__init__()
        self.backbone, self.projection = model[0].auto_model, model[1].linear

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[batch, sequence, dim]``."""
        hidden = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        return nn.functional.normalize(self.projection(hidden), dim=-1)


@pytest.fixture
def old_export(tmp_path: Path) -> Path:
    """Return a folder as ``pylate-onnx-export`` leaves it, of the checkpoint of ``bert``."""
    model = pair("bert").theirs
    folder = tmp_path / "old"
    export_graph(OldExport(model), folder / "model.onnx", ("output",))
    model.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    fields = {
        "model_type": "ColBERT",
        "uses_token_type_ids": True,
        "query_prefix": model.query_prefix,
        "document_prefix": model.document_prefix,
        "query_length": model.query_length,
        "document_length": model.document_length,
        "do_query_expansion": False,
        "attend_to_expansion_tokens": False,
        "skiplist_words": model.skiplist_words,
        "embedding_dim": EMBEDDING_DIM,
        "mask_token_id": model.tokenizer.mask_token_id,
        "pad_token_id": model.tokenizer.pad_token_id,
        "query_prefix_id": model.query_prefix_id,
        "document_prefix_id": model.document_prefix_id,
        "do_lower_case": False,
    }
    write_json(folder / "onnx_config.json", fields)
    return folder


def test_a_folder_of_pylate_onnx_export_is_recognised_and_read(old_export: Path) -> None:
    model, theirs = opened(old_export), pair("unexpanded").theirs
    assert_same(model.encode_queries(TEXTS), theirs.encode(TEXTS, is_query=True))
    assert_same(model.encode_documents(TEXTS), theirs.encode(TEXTS, is_query=False))


def test_what_the_checkpoint_says_goes_before_what_next_plaid_is_told(old_export: Path) -> None:
    own = {"model_type": "ColBERT", "do_query_expansion": True}
    write_json(old_export / "config_sentence_transformers.json", own)
    expected = pair("bert").theirs.encode(TEXTS, is_query=True)
    assert_same(opened(old_export).encode_queries(TEXTS), expected)


def test_a_graph_without_metadata_is_recognised_before_an_embedding_model(tmp_path: Path) -> None:
    class TwoNames(OldExport):
        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            tokens = super().forward(*inputs)
            return tokens, tokens.clone()

    folder = tmp_path / "bare"
    shutil.copytree(pair("bert").folder, folder, ignore=shutil.ignore_patterns("*.onnx"))
    (folder / "conversion.json").unlink()
    names = ("output", "token_embeddings")
    export_graph(TwoNames(pair("bert").theirs), folder / "model.onnx", names)
    assert isinstance(load(folder), LateInteractionModel)
    for name in ("config_sentence_transformers.json", "onnx_config.json"):
        (folder / name).unlink()
    export_graph(OldExport(pair("bert").theirs), folder / "model.onnx", ("token_embeddings",))
    assert isinstance(load(folder), EmbeddingModel)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query_length": "32"}, "query_length is '32'"),
        ({"document_length": True}, "document_length is True"),
        ({"skiplist_words": None}, "skiplist_words is None"),
        ({"query_prefix_id": "[Q]"}, r"query_prefix_id is '\[Q\]'"),
        ({"query_length": 3}, "leaves no room for text"),
    ],
)
def test_settings_that_nothing_can_be_prepared_with_are_told(
    change: dict[str, object], said: str, old_export: Path
) -> None:
    merge_json(old_export / "onnx_config.json", change)
    with pytest.raises(InputError, match=said):
        load(old_export)


def test_missing_settings_and_outputs_are_told(old_export: Path) -> None:
    (old_export / "onnx_config.json").unlink()
    with pytest.raises(InputError, match=r"neither config_sentence_\S+ nor \S+ has do_query_exp"):
        load(old_export)
    write_json(old_export / "onnx_config.json", {"model_type": "ColBERT"})
    model = pair("bert").theirs
    export_graph(OldExport(model), old_export / "model.onnx", ("last_hidden_state",))
    shutil.copyfile(pair("bert").folder / "onnx_config.json", old_export / "onnx_config.json")
    with pytest.raises(InputError, match="no token embeddings named output or token_embeddings"):
        load(old_export)


@pytest.mark.parametrize("texts", [None, 3, b"bytes", ["good", None], ["half \ud83d"]])
def test_what_is_not_a_text_is_refused(texts: object) -> None:
    with pytest.raises(InputError, match=r"str|surrogate"):
        pair("bert").ours.encode_documents(texts)  # type: ignore[arg-type]
