"""Converted folders in the hands of those who load them, against the untouched PyTorch model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from converted import (
    Conversion,
    external_data,
    left_sided,
    minilm,
    named_by_level,
    old_layout,
    projected,
    tagger,
)
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTModelForTokenClassification
from sentence_references import (
    FP32_TOLERANCE,
    LEAST_8_BIT_COSINE,
    LEAST_16_BIT_COSINE,
    SHORT,
    TEXTS,
    expected,
    least_cosine,
    original,
)
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
    AutoTokenizer,
    TokenClassificationPipeline,
    pipeline,
)

for_each = pytest.mark.parametrize


def onnx_sentence_transformer(conversion: Conversion, file_name: str | None) -> SentenceTransformer:
    settings = {"provider": "CPUExecutionProvider"}
    if file_name:
        settings["file_name"] = file_name
    folder = conversion().folder
    model = SentenceTransformer(str(folder), backend="onnx", device="cpu", model_kwargs=settings)
    # It exports anew, without a word, where it finds no file of that name.
    assert Path(model[0].auto_model.path) == folder / "onnx" / (file_name or "model.onnx")
    return model


@for_each(
    ("conversion", "file_name"),
    [
        (minilm, None),
        (minilm, "model_opt1.onnx"),
        (projected, None),
        (projected, "model_opt1.onnx"),
        (old_layout, None),
        (old_layout, "model_opt1.onnx"),
        (left_sided, None),
        (external_data, None),
        (external_data, "model_opt1.onnx"),
    ],
)
def test_sentence_transformers_gives_the_same_vectors_over_onnx(
    conversion: Conversion, file_name: str | None
) -> None:
    model = onnx_sentence_transformer(conversion, file_name)
    assert model.max_seq_length == original(conversion).max_seq_length
    np.testing.assert_allclose(model.encode(TEXTS), expected(conversion), atol=FP32_TOLERANCE)


@for_each(
    ("file_name", "least"),
    [
        ("model_quantized.onnx", LEAST_8_BIT_COSINE),
        ("model_int8.onnx", LEAST_8_BIT_COSINE),
        ("model_uint8.onnx", LEAST_8_BIT_COSINE),
        ("model_fp16.onnx", LEAST_16_BIT_COSINE),
    ],
)
def test_sentence_transformers_gives_close_vectors_in_8_and_16_bits(
    file_name: str, least: float
) -> None:
    model = onnx_sentence_transformer(minilm, file_name)
    vectors = np.stack([model.encode(text) for text in TEXTS])
    assert least_cosine(vectors, expected(minilm)) > least


def test_sentence_transformers_puts_the_prompts_of_the_checkpoint_before_a_query() -> None:
    model = onnx_sentence_transformer(projected, None)
    wanted = original(projected).encode_query(SHORT)
    assert np.abs(wanted - original(projected).encode(SHORT)).max() > 0.01
    np.testing.assert_allclose(model.encode_query(SHORT), wanted, atol=FP32_TOLERANCE)


def over_onnx(kind: Any, folder: Path, file_name: str) -> Any:
    model = kind.from_pretrained(folder, subfolder="onnx", file_name=file_name)
    assert Path(model.path) == folder / "onnx" / file_name
    return model


@for_each(
    ("conversion", "file_name"),
    [
        (minilm, "model.onnx"),
        (minilm, "model_opt1.onnx"),
        (old_layout, "model.onnx"),
        (external_data, "model_opt1.onnx"),
    ],
)
def test_optimum_gives_the_same_token_vectors(conversion: Conversion, file_name: str) -> None:
    folder = conversion().folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape[1] == original(conversion).max_seq_length
    model = over_onnx(ORTModelForFeatureExtraction, folder, file_name)
    with torch.inference_mode():
        wanted = AutoModel.from_pretrained(conversion().backbone)(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    actual = model(**inputs).last_hidden_state
    assert torch.abs(actual[real] - wanted[real]).max() < FP32_TOLERANCE


def logits_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(**inputs).logits
    assert isinstance(logits, torch.Tensor)
    return logits[inputs["attention_mask"].bool()]


@for_each(
    ("conversion", "file_name", "least_agreement"),
    [
        (tagger, "model.onnx", 1.0),
        (tagger, "model_opt1.onnx", 1.0),
        (tagger, "model_quantized.onnx", 0.9),
        (tagger, "model_fp16.onnx", 0.99),
        (named_by_level, "model_opt2_Float32.onnx", 1.0),
        (named_by_level, "model_opt2_QInt8.onnx", 0.9),
        (named_by_level, "model_opt2_QUInt8.onnx", 0.9),
    ],
)
def test_optimum_gives_the_same_tags(
    conversion: Conversion, file_name: str, least_agreement: float
) -> None:
    folder = conversion().folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = dict(tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt"))
    assert inputs["input_ids"].shape[1] == 128
    model = over_onnx(ORTModelForTokenClassification, folder, file_name)
    checkpoint = conversion().checkpoint
    wanted = logits_of(AutoModelForTokenClassification.from_pretrained(checkpoint), inputs)
    actual = logits_of(model, inputs)
    agreement = (actual.argmax(-1) == wanted.argmax(-1)).float().mean()
    assert agreement >= least_agreement
    if least_agreement == 1:
        assert torch.abs(actual - wanted).max() < FP32_TOLERANCE


def entities(ner: TokenClassificationPipeline, text: str) -> list[tuple[str, str, int, int, float]]:
    return [
        (
            found["entity_group"],
            found["word"],
            found["start"],
            found["end"],
            round(float(found["score"]), 3),
        )
        for found in ner(text)
    ]


@for_each("file_name", ["model.onnx", "model_opt1.onnx"])
def test_the_ner_pipeline_of_transformers_finds_the_same_entities(file_name: str) -> None:
    def ner(model: Any, folder: Path) -> TokenClassificationPipeline:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return pipeline("ner", model=model, tokenizer=tokenizer, aggregation_strategy="simple")

    folder, checkpoint = tagger().folder, tagger().checkpoint
    converted = ner(over_onnx(ORTModelForTokenClassification, folder, file_name), folder)
    untouched = ner(AutoModelForTokenClassification.from_pretrained(checkpoint), checkpoint)
    found = [entities(untouched, text) for text in SHORT]
    assert any(found)
    assert [entities(converted, text) for text in SHORT] == found
