"""Converted rerankers and classifiers in the hands of those who load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agreement import ALL_TEXTS, FP32_TOLERANCE, LONGEST
from converted import Converted, converted, workshop
from cross_encoder_checkpoints import (
    INFERENCE,
    LISTS,
    PAIRS,
    QUERIES,
    SENTIMENT,
    Array,
    build_classifier,
    classifier,
    expected_logits,
    original,
    pearson,
    reranker,
)
from fastembed.common.model_description import ModelSource
from fastembed.rerank.cross_encoder import TextCrossEncoder
from optimum.onnxruntime import ORTModelForSequenceClassification
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

SHORT = [text for text in ALL_TEXTS if 20 < len(text) < 200][:6]
LONG_PAIR = (QUERIES[0], LONGEST)
FILES = ["model.onnx", "model_opt1.onnx", "model_quantized.onnx", "model_fp16.onnx"]
LEAST_CORRELATION = {"model_quantized.onnx": 0.99, "model_fp16.onnx": 0.9999}
for_each = pytest.mark.parametrize


def check_scores(file_name: str, actual: Array, expected: Array) -> None:
    if file_name in LEAST_CORRELATION:
        assert pearson(actual, expected) >= LEAST_CORRELATION[file_name]
    else:
        np.testing.assert_allclose(actual, expected, atol=FP32_TOLERANCE)


def over_onnx(result: Converted, file_name: str = "model.onnx") -> CrossEncoder:
    settings = {"provider": "CPUExecutionProvider", "file_name": file_name}
    model = CrossEncoder(str(result.folder), backend="onnx", device="cpu", model_kwargs=settings)
    # It exports anew, without a word, where it finds no file of that name.
    assert Path(model.model.path) == result.folder / "onnx" / file_name
    return model


@for_each("architecture", ["bert", "roberta", "modernbert", "qwen3"])
@for_each("file_name", FILES)
def test_cross_encoder_gives_the_same_scores_over_onnx(architecture: str, file_name: str) -> None:
    result = reranker(architecture)
    model = over_onnx(result, file_name)
    theirs = original(result.checkpoint)
    assert model.max_length == theirs.max_length
    pairs = [*PAIRS, LONG_PAIR]
    check_scores(file_name, model.predict(pairs), theirs.predict(pairs))


def test_cross_encoder_ranks_alike_over_onnx() -> None:
    theirs = original(reranker("bert").checkpoint).rank(QUERIES[0], LISTS[0])
    ours = over_onnx(reranker("bert")).rank(QUERIES[0], LISTS[0])
    assert [found["corpus_id"] for found in ours] == [found["corpus_id"] for found in theirs]


@for_each(
    "said",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"},
    ],
)
def test_the_activation_comes_back_in_cross_encoder(said: dict[str, Any]) -> None:
    name = f"consumed-{next(iter(said))}"
    result = converted(build_classifier(workshop() / name, "bert", config=said), optimize=0)
    model = over_onnx(result)
    assert isinstance(model.activation_fn, torch.nn.Tanh)
    expected = np.tanh(expected_logits(reranker("bert").checkpoint))
    np.testing.assert_allclose(model.predict(PAIRS), expected, atol=FP32_TOLERANCE)


def test_labels_without_an_activation_stay_logits_in_cross_encoder() -> None:
    result = classifier("deberta-v2", INFERENCE)
    model = over_onnx(result)
    assert isinstance(model.activation_fn, torch.nn.Identity)
    expected = original(result.checkpoint).predict(PAIRS[:20])
    np.testing.assert_allclose(model.predict(PAIRS[:20]), expected, atol=FP32_TOLERANCE)


def with_optimum(result: Converted, file_name: str) -> Any:
    model = ORTModelForSequenceClassification.from_pretrained(
        result.folder, subfolder="onnx", file_name=file_name
    )
    assert Path(model.path) == result.folder / "onnx" / file_name
    return model


@for_each("architecture", ["bert", "distilbert"])
@for_each("file_name", FILES)
def test_optimum_gives_the_same_logits(architecture: str, file_name: str) -> None:
    result = reranker(architecture)
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    inputs = tokenizer(PAIRS, padding=True, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape[1] == 128
    logits = with_optimum(result, file_name)(**inputs).logits.numpy()[:, 0]
    check_scores(file_name, logits, expected_logits(result.checkpoint))


@for_each(
    ("result", "task", "options"),
    [
        (("bert", SENTIMENT), "text-classification", {}),
        (("deberta-v2", INFERENCE), "zero-shot-classification", {"candidate_labels": ["a", "b"]}),
    ],
)
def test_the_pipelines_of_transformers_answer_alike(
    result: tuple[str, tuple[str, ...]], task: str, options: dict[str, Any]
) -> None:
    made = classifier(*result)

    def answers(model: Any, folder: Path) -> list[Any]:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return pipeline(task, model=model, tokenizer=tokenizer)(SHORT, **options)

    ours = answers(with_optimum(made, "model.onnx"), made.folder)
    untouched = AutoModelForSequenceClassification.from_pretrained(made.checkpoint)
    for found, expected in zip(ours, answers(untouched, made.checkpoint), strict=True):
        scores = "scores" if "scores" in expected else "score"
        assert found.pop(scores) == pytest.approx(expected.pop(scores), abs=FP32_TOLERANCE)
        assert found == expected


def fast_encoder(result: Converted, file_name: str) -> TextCrossEncoder:
    name = f"retort/{result.folder.name}-{file_name}"
    TextCrossEncoder.add_custom_model(
        model=name, sources=ModelSource(hf=name), model_file=f"onnx/{file_name}"
    )
    return TextCrossEncoder(name, specific_model_path=str(result.folder), cuda=False)


@for_each("file_name", FILES)
def test_fastembed_reranks_by_the_logits(file_name: str) -> None:
    result = reranker("xlm-roberta")
    model = fast_encoder(result, file_name)
    expected = expected_logits(result.checkpoint)
    scores = np.concatenate(
        [
            list(model.rerank(query, documents))
            for query, documents in zip(QUERIES, LISTS, strict=True)
        ]
    )
    check_scores(file_name, scores, expected)
    pairs = np.array(list(model.rerank_pairs(PAIRS)))
    check_scores(file_name, pairs, expected)


@for_each("architecture", ["bert", "qwen3"])
def test_fastembed_cuts_long_pairs_where_cross_encoder_does(architecture: str) -> None:
    result = reranker(architecture)
    theirs = CrossEncoder(str(result.checkpoint), activation_fn=torch.nn.Identity())
    (score,) = fast_encoder(result, "model_opt1.onnx").rerank_pairs([LONG_PAIR])
    assert score == pytest.approx(theirs.predict(LONG_PAIR), abs=FP32_TOLERANCE)
