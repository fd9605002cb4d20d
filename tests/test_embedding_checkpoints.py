"""Every form in which embedding checkpoints come gives the vectors of sentence-transformers."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from agreement import (
    FP32_TOLERANCE,
    LONGEST,
    TEXTS,
    cases_of,
    largest_difference,
    run_graph,
    sentence_cases,
    sentence_features,
    sentence_transformer,
    session,
)
from converted import Converted, converted, old_layout, workshop
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tiny_checkpoints import HIDDEN_SIZE, build_encoder, build_sentence_transformer
from tiny_variants import as_bfloat16, as_pickle, with_remote_code

from retort.errors import InputError
from retort.runtime import load

PROMPTS = {"query": "search for: ", "passage": "text: "}
SHORTENED = 12


def assert_agrees(result: Converted, model: SentenceTransformer | None = None) -> None:
    """Compare every graph with sentence-transformers, by default on the checkpoint itself."""
    cases = cases_of(model) if model else sentence_cases(result.checkpoint)
    assert result.graphs
    for file in result.graphs:
        worst, where = largest_difference(result.folder / file, cases)
        assert worst <= FP32_TOLERANCE, f"{file}: {where}"


@cache
def prompted() -> Converted:
    checkpoint = build_sentence_transformer(
        workshop() / "prompted",
        "roberta",
        dense=((16, "Tanh"),),
        prompts=PROMPTS,
        default_prompt_name="query",
        max_seq_length=SHORTENED,
    )
    return converted(checkpoint)


@cache
def named_pooling() -> Converted:
    return converted(build_encoder(workshop() / "named-pooling", "bert"), pooling="cls")


@cache
def remote_code() -> Converted:
    checkpoint = with_remote_code(build_encoder(workshop() / "remote-code", "bert"))
    return converted(checkpoint, pooling="mean", trust_remote_code=True)


def test_a_backbone_in_a_subfolder_is_found() -> None:
    result = old_layout()
    assert result.backbone != result.checkpoint
    assert_agrees(result)


def test_bfloat16_weights_become_an_fp32_graph_of_the_same_rounded_model() -> None:
    checkpoint = as_bfloat16(build_sentence_transformer(workshop() / "bfloat16", "bert"))
    result = converted(checkpoint)
    assert_agrees(result)
    weights = result.graph("onnx/model.onnx").graph.initializer
    assert not any(tensor.data_type == tensor.BFLOAT16 for tensor in weights)


def test_pickle_weights_are_read_with_the_flag() -> None:
    checkpoint = as_pickle(build_sentence_transformer(workshop() / "pickle", "distilbert"))
    assert_agrees(converted(checkpoint, allow_pickle=True))


def test_pickle_weights_of_a_dense_layer_need_the_flag_too() -> None:
    checkpoint = build_sentence_transformer(workshop() / "dense", "bert", dense=((16, "Tanh"),))
    weights = checkpoint / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), checkpoint / "2_Dense" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match=r"2_Dense.*--allow_pickle"):
        converted(checkpoint)
    assert_agrees(converted(checkpoint, allow_pickle=True))


def test_a_model_with_its_own_code_is_converted_with_the_flag() -> None:
    result = remote_code()
    remote = {"trust_remote_code": True}
    backbone = Transformer(
        str(result.checkpoint), model_args=remote, config_args=remote, max_seq_length=48
    )
    assert type(backbone.auto_model).__name__ == "TinyRemoteModel"
    model = SentenceTransformer(modules=[backbone, Pooling(HIDDEN_SIZE, "mean")], device="cpu")
    assert_agrees(result, model.eval())


def test_a_plain_checkpoint_gives_token_vectors_alone() -> None:
    result = converted(build_encoder(workshop() / "plain", "bert"))
    model = SentenceTransformer(modules=[Transformer(str(result.checkpoint))], device="cpu").eval()
    for file in result.graphs:
        outputs = [value.name for value in session(result.folder / file).get_outputs()]
        assert outputs == ["last_hidden_state"]
    assert not (result.folder / "modules.json").exists()
    assert_agrees(result, model)


def test_a_plain_checkpoint_with_a_named_pooling_becomes_one_of_sentence_transformers(
    tmp_path: Path,
) -> None:
    result = named_pooling()
    folder = tmp_path / "with-weights"
    shutil.copytree(result.folder, folder, ignore=shutil.ignore_patterns("onnx"))
    shutil.copy(result.checkpoint / "model.safetensors", folder)
    model = SentenceTransformer(str(folder), device="cpu").eval()
    assert model[1].get_pooling_mode_str() == "cls"
    assert_agrees(result, model)
    vectors = load(result.folder).encode([*TEXTS, LONGEST])
    np.testing.assert_allclose(vectors, model.encode([*TEXTS, LONGEST]), atol=FP32_TOLERANCE)


def test_the_length_of_sentence_transformers_is_the_length_of_the_folder() -> None:
    result = prompted()
    model = sentence_transformer(result.checkpoint)
    assert model.max_seq_length == SHORTENED
    assert sentence_features(model, [LONGEST], "right")["input_ids"].shape == (1, SHORTENED)
    assert result.json("tokenizer_config.json")["model_max_length"] == SHORTENED
    assert result.json("sentence_bert_config.json")["max_seq_length"] == SHORTENED
    assert load(result.folder).max_length == SHORTENED


def test_a_graph_takes_more_tokens_than_its_users_feed() -> None:
    result = prompted()
    features = sentence_features(sentence_transformer(result.checkpoint), [LONGEST], "right")
    longer = {name: np.tile(values, 3) for name, values in features.items()}
    vectors = run_graph(result.folder / "onnx" / "model.onnx", longer)["last_hidden_state"]
    assert vectors.shape == (1, 3 * SHORTENED, HIDDEN_SIZE)


def test_the_prompts_are_carried() -> None:
    result = prompted()
    settings = result.json("config_sentence_transformers.json")
    source = result.checkpoint / "config_sentence_transformers.json"
    assert settings == json.loads(source.read_text(encoding="utf-8"))
    assert PROMPTS.items() <= load(result.folder).prompts.items()


@pytest.mark.parametrize("prompt_name", [None, *PROMPTS])
@pytest.mark.parametrize("file", ["onnx/model.onnx", "onnx/model_opt1.onnx"])
def test_the_runtime_encodes_with_prompts_as_sentence_transformers_does(
    prompt_name: str | None, file: str
) -> None:
    result = prompted()
    texts = ["", "a bus to the harbour", *TEXTS, LONGEST]
    expected = sentence_transformer(result.checkpoint).encode(texts, prompt_name=prompt_name)
    vectors = load(result.folder, file).encode(texts, prompt_name=prompt_name)
    np.testing.assert_allclose(vectors, expected, atol=FP32_TOLERANCE)


def test_a_prompt_changes_the_vectors() -> None:
    model = load(prompted().folder)
    query, passage = (model.encode("a bus", prompt_name=name) for name in PROMPTS)
    assert np.abs(query - passage).max() > 0.01
