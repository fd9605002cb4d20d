"""Converted folders in the hands of fastembed, and of ONNX Runtime with a tokenizer alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from converted import (
    Conversion,
    external_data,
    left_sided,
    minilm,
    old_layout,
    projected,
)
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from sentence_references import (
    FP32_TOLERANCE,
    LEAST_8_BIT_COSINE,
    LEAST_16_BIT_COSINE,
    LONG,
    TEXTS,
    Array,
    expected,
    least_cosine,
)
from tokenizers import Tokenizer

for_each = pytest.mark.parametrize


def fast_embedding(
    conversion: Conversion,
    model_file: str,
    *,
    pooling: PoolingType,
    normalize: bool,
    output_name: str | None = None,
) -> TextEmbedding:
    name = f"retort/{conversion().folder.name}-{Path(model_file).stem}-{pooling.value}"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=pooling,
        normalization=normalize,
        sources=ModelSource(hf=name),
        dim=expected(conversion).shape[1],
        model_file=model_file,
        output_name=output_name,
    )
    return TextEmbedding(name, specific_model_path=str(conversion().folder), cuda=False)


@for_each(
    ("model_file", "least"),
    [
        ("onnx/model.onnx", None),
        ("onnx/model_opt1.onnx", None),
        ("onnx/model_quantized.onnx", LEAST_8_BIT_COSINE),
        ("onnx/model_fp16.onnx", LEAST_16_BIT_COSINE),
    ],
)
def test_fastembed_pools_short_and_long_texts_to_the_same_vectors(
    model_file: str, least: float | None
) -> None:
    model = fast_embedding(minilm, model_file, pooling=PoolingType.MEAN, normalize=True)
    vectors: Array = np.stack(list(model.embed(TEXTS, batch_size=1)))
    if least is None:
        np.testing.assert_allclose(vectors, expected(minilm), atol=FP32_TOLERANCE)
        vectors = np.stack(list(model.embed(TEXTS)))
        np.testing.assert_allclose(vectors, expected(minilm), atol=FP32_TOLERANCE)
    else:
        assert least_cosine(vectors, expected(minilm)) > least


@for_each("conversion", [projected, old_layout, left_sided, external_data])
def test_fastembed_takes_the_pooled_vector_of_the_graph_by_its_name(conversion: Conversion) -> None:
    model = fast_embedding(
        conversion,
        "onnx/model.onnx",
        pooling=PoolingType.DISABLED,
        normalize=False,
        output_name="sentence_embedding",
    )
    vectors: Array = np.stack(list(model.embed(TEXTS)))
    np.testing.assert_allclose(vectors, expected(conversion), atol=FP32_TOLERANCE)


def plain_inputs(folder: Path, texts: Sequence[str], length: int) -> dict[str, Array]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len(tokenizer.encode(LONG).ids) > length, "the tokenizer itself cuts nothing"
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(texts))
    return {
        "input_ids": np.array([text.ids for text in encoded], np.int64),
        "attention_mask": np.array([text.attention_mask for text in encoded], np.int64),
        "token_type_ids": np.array([text.type_ids for text in encoded], np.int64),
    }


@for_each("conversion", [minilm, projected, old_layout, external_data])
@for_each("file_name", ["model.onnx", "model_opt1.onnx"])
def test_onnxruntime_and_tokenizers_alone_give_the_same_vectors(
    conversion: Conversion, file_name: str
) -> None:
    folder = conversion().folder
    length = conversion().json("tokenizer_config.json")["model_max_length"]
    session = onnxruntime.InferenceSession(folder / "onnx" / file_name)
    given = plain_inputs(folder, TEXTS, length)
    feeds = {value.name: given[value.name] for value in session.get_inputs()}
    tokens, vectors = session.run(None, feeds)
    assert tokens.shape[:2] == given["input_ids"].shape
    np.testing.assert_allclose(vectors, expected(conversion), atol=FP32_TOLERANCE)
