"""Converted ColBERT folders in the hands of next-plaid, fastembed, PyLate and Optimum."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colbert_checkpoints import EMBEDDING_DIM, build_colbert, build_stanford
from colbert_references import (
    TEXTS,
    VARIANTS,
    Array,
    assert_same,
    made_pair,
    pair,
)
from converted import Converted, colbert, converted, workshop
from fastembed import LateInteractionTextEmbedding
from next_plaid import DEFAULTS, SETTINGS_FILE, NextPlaid, parsed_settings
from optimum.onnxruntime import ORTModelForCustomTasks
from pylate.models import ColBERT
from transformers import AutoTokenizer

from retort.fidelity import row_cosines
from retort.json_files import read_json, write_json

OWN_FILE = "config_sentence_transformers.json"
MEAN_8_BIT = 0.985
RIGHT_PADDED = (
    *("bert", "xlm-roberta", "modernbert", "qwen3, on the right", "two Dense"),
    *("other lengths", "skipping words", "lowered", "Stanford's"),
)
for_each = pytest.mark.parametrize


def unexpanded_queries(model: ColBERT, texts: Sequence[str]) -> list[Array]:
    """Return PyLate's tokens of queries that are not filled up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "do_query_expansion", False)
        return list(model.encode(list(texts), is_query=True))


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


@for_each("variant", RIGHT_PADDED)
def test_next_plaid_s_documents_are_those_of_pylate(variant: str) -> None:
    both = pair(variant)
    expected = both.theirs.encode(TEXTS, is_query=False)
    assert_same(NextPlaid(both.folder).encode_documents(TEXTS), expected)


@for_each("variant", ["qwen3, padded on the left", "bert on the left"])
def test_next_plaid_s_documents_are_those_of_pylate_on_the_left_one_by_one(variant: str) -> None:
    # Side by side, PyLate puts the prefix among the padding.
    both = pair(variant)
    expected = [both.theirs.encode(text, is_query=False) for text in TEXTS]
    assert_same(NextPlaid(both.folder).encode_documents(TEXTS), expected)


def test_next_plaid_s_queries_are_those_of_pylate_where_the_expansion_is_attended_to() -> None:
    both = pair("attending")
    model = NextPlaid(both.folder)
    assert model.settings["do_query_expansion"] is True
    expected = both.theirs.encode(TEXTS, is_query=True)
    assert {len(tokens) for tokens in expected} == {model.settings["query_length"]}
    assert_same(model.encode_queries(TEXTS), expected)


@for_each("variant", [*RIGHT_PADDED, "unexpanded", "qwen3, padded on the left"])
def test_next_plaid_s_queries_are_not_expanded_where_the_expansion_is_not_attended_to(
    variant: str,
) -> None:
    both = pair(variant)
    model = NextPlaid(both.folder)
    assert model.settings["do_query_expansion"] is False
    # One by one, for the sake of those that are padded on the left.
    expected = [unexpanded_queries(both.theirs, [text])[0] for text in TEXTS]
    assert_same(model.encode_queries(TEXTS), expected)


def test_next_plaid_would_expand_wrongly_if_the_folder_told_it_to(tmp_path: Path) -> None:
    both = pair("bert")
    folder = copied(both.folder, tmp_path / "told")
    told = {**read_json(folder / SETTINGS_FILE), "do_query_expansion": True}
    write_json(folder / SETTINGS_FILE, told)
    text = ["one two"]
    (expanded,) = NextPlaid(folder).encode_queries(text)
    (expected,) = both.theirs.encode(text, is_query=True)
    assert row_cosines(expected, expanded).min() < 0.9


def test_next_plaid_cuts_texts_to_the_positions_that_there_are(tmp_path: Path) -> None:
    checkpoint = build_colbert(
        tmp_path / "long", "xlm-roberta", query_length=200, document_length=600
    )
    both = made_pair(checkpoint, query_length=128, document_length=128)
    model = NextPlaid(both.folder)
    assert_same(model.encode_documents(TEXTS), both.theirs.encode(TEXTS, is_query=False))
    assert_same(model.encode_queries(TEXTS), unexpanded_queries(both.theirs, TEXTS))


def test_next_plaid_s_8_bit_file_is_close_to_pylate() -> None:
    model = ColBERT(str(colbert().checkpoint), device="cpu")
    documents = NextPlaid(colbert().folder, quantized=True).encode_documents(TEXTS)
    expected = model.encode(TEXTS, is_query=False)
    assert row_cosines(np.concatenate(expected), np.concatenate(documents)).mean() > MEAN_8_BIT


@for_each("variant", VARIANTS)
def test_next_plaid_is_told_all_it_may_be_told_in_its_own_types(variant: str) -> None:
    both = pair(variant)
    told, model = read_json(both.folder / SETTINGS_FILE), both.theirs
    assert parsed_settings(told) == told, "a value of another type is fatal there"
    assert set(told) == set(DEFAULTS)
    unknown = model.tokenizer.unk_token
    known = model.tokenizer.get_vocab()
    words = [word if word in known else unknown for word in model.skiplist_words]
    assert told == {
        "model_type": "ColBERT",
        "model_name": both.folder.name,
        "model_class": type(model[0].auto_model).__name__,
        "uses_token_type_ids": False,
        "query_prefix": model.query_prefix,
        "document_prefix": model.document_prefix,
        "query_length": model.query_length,
        "document_length": model.document_length,
        "do_query_expansion": model.attend_to_expansion_tokens,
        "attend_to_expansion_tokens": model.attend_to_expansion_tokens,
        "skiplist_words": list(dict.fromkeys(words)),
        "embedding_dim": model[-1].out_features,
        "mask_token_id": model.tokenizer.pad_token_id,  # what PyLate expands with
        "pad_token_id": AutoTokenizer.from_pretrained(both.folder).pad_token_id,
        "query_prefix_id": model.query_prefix_id,
        "document_prefix_id": model.document_prefix_id,
        "do_lower_case": model[0].do_lower_case,
    }


def test_pylate_s_file_keeps_what_it_said_and_tells_the_17_fields() -> None:
    own = read_json(colbert().checkpoint / OWN_FILE)
    told = colbert().json(OWN_FILE)
    assert {key: told[key] for key in own} == own
    assert set(told) == {*own, *DEFAULTS}
    for_next_plaid = colbert().json(SETTINGS_FILE)
    same = set(DEFAULTS) - {"skiplist_words"}
    assert {key: told[key] for key in same} == {key: for_next_plaid[key] for key in same}


def test_the_checkpoint_s_wish_to_expand_stays_in_pylate_s_file() -> None:
    told = [read_json(pair("bert").folder / name) for name in (OWN_FILE, SETTINGS_FILE)]
    assert [settings["do_query_expansion"] for settings in told] == [True, False]
    assert [settings["attend_to_expansion_tokens"] for settings in told] == [False, False]


def test_pylate_reads_its_settings_from_the_file_of_the_folder(tmp_path: Path) -> None:
    checkpoint = copied(colbert().checkpoint, tmp_path / "checkpoint")
    shutil.copyfile(colbert().folder / OWN_FILE, checkpoint / OWN_FILE)
    before, after = (
        ColBERT(str(path), device="cpu") for path in (colbert().checkpoint, checkpoint)
    )
    for is_query in (True, False):
        expected = before.encode(TEXTS, is_query=is_query)
        assert_same(after.encode(TEXTS, is_query=is_query), expected)


FASTEMBED_MARKERS = {"[unused0]": 1, "[unused1]": 2}  # which it takes for granted
FASTEMBED_QUERY_LENGTH = 32


def renumbered(checkpoint: Path) -> Path:
    """Give the markers of Stanford's ColBERT the ids that they have in BERT as published."""
    path = checkpoint / "tokenizer.json"
    content = read_json(path)
    vocabulary = content["model"]["vocab"]
    for token, index in FASTEMBED_MARKERS.items():
        (other,) = [name for name, known in vocabulary.items() if known == index]
        vocabulary[token], vocabulary[other] = index, vocabulary[token]
    for token in content["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    content["added_tokens"].sort(key=lambda token: token["id"])
    for token in content["post_processor"]["special_tokens"].values():
        token["ids"] = [vocabulary[name] for name in token["tokens"]]
    write_json(path, content)
    settings = read_json(checkpoint / "tokenizer_config.json")
    del settings["added_tokens_decoder"]
    write_json(checkpoint / "tokenizer_config.json", settings)
    words = sorted(vocabulary, key=lambda word: vocabulary[word])
    (checkpoint / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return checkpoint


@cache
def for_fastembed() -> Converted:
    checkpoint = build_stanford(workshop() / "fastembed", query_maxlen=FASTEMBED_QUERY_LENGTH)
    return converted(renumbered(checkpoint), optimize=0)


def test_fastembed_gives_the_queries_and_documents_of_pylate() -> None:
    theirs = ColBERT(str(for_fastembed().checkpoint), device="cpu")
    assert (theirs.query_prefix_id, theirs.document_prefix_id) == (1, 2)
    model = LateInteractionTextEmbedding(
        "colbert-ir/colbertv2.0", specific_model_path=str(for_fastembed().folder), cuda=False
    )
    texts = [text for text in TEXTS if text.strip()]
    assert_same(list(model.embed(texts)), theirs.encode(texts, is_query=False))
    # It does not cut queries to 32 tokens, only documents to their length.
    short = [text for text in texts if len(theirs.tokenizer(text)["input_ids"]) < 32]
    assert len(short) > 20
    assert_same(list(model.query_embed(short)), theirs.encode(short, is_query=True))


@for_each("file_name", ["model.onnx", "model_int8.onnx", "model_fp16.onnx"])
def test_optimum_gives_the_same_whether_it_looks_in_the_root_or_in_onnx(file_name: str) -> None:
    folder = colbert().folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs: Any = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")
    feeds = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    found = {
        "the root, where there are two": {"file_name": file_name},
        "onnx/": {"subfolder": "onnx", "file_name": file_name},
    }
    outputs = []
    for where in found.values():
        model = ORTModelForCustomTasks.from_pretrained(folder, **where)
        outputs.append(model(**feeds)["output"])
    assert outputs[0].shape[2] == EMBEDDING_DIM
    assert np.array_equal(*outputs)
