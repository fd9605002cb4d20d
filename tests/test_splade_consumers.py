"""SPLADE folders in the hands of those who load them, against SparseEncoder on the checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from agreement import FP32_TOLERANCE, TEXTS, cosine, session
from converted import Converted
from fastembed import SparseTextEmbedding
from optimum.onnxruntime import ORTModelForMaskedLM
from sentence_transformers import SparseEncoder
from splade_references import COUNTED, cases, inference_free, plain, sparse_encoder, splade
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import WordPiece
from transformers import AutoTokenizer

from retort.runtime import load

Conversion = Callable[[], Converted]
Floats = npt.NDArray[np.float32]

SUMMED = ("bert", "sum", "log1p_relu")
FASTEMBED_NAME = "prithivida/Splade_PP_en_v1"  # a name it knows; what is read is the folder
MEAN_8_BIT = 0.97

for_each = pytest.mark.parametrize


def over_onnx(conversion: Conversion, file_name: str | None) -> SparseEncoder:
    settings = {"provider": "CPUExecutionProvider"}
    if file_name:
        settings["file_name"] = file_name
    folder = conversion().folder
    return SparseEncoder(str(folder), backend="onnx", device="cpu", model_kwargs=settings)


def dense(vectors: torch.Tensor) -> Floats:
    return vectors.to_dense().numpy()


@for_each(
    ("conversion", "file_name"),
    [
        (lambda: splade("bert"), None),
        (lambda: splade("bert"), "model_opt1_Float32.onnx"),
        (lambda: splade("roberta"), None),
        (lambda: splade("modernbert"), None),
        (lambda: splade(*SUMMED), None),
        (plain, "onnx/model.onnx"),
        (plain, "onnx/model_opt1.onnx"),
    ],
)
def test_sparse_encoder_gives_the_same_vectors_over_onnx(
    conversion: Conversion, file_name: str | None
) -> None:
    model = over_onnx(conversion, file_name)
    # It exports anew, without a word, where it finds no file of that name.
    assert Path(model[0].auto_model.path).parent == conversion().folder / "onnx"
    original = sparse_encoder(conversion().checkpoint)
    assert model.max_seq_length == original.max_seq_length
    expected = dense(original.encode(TEXTS))
    np.testing.assert_allclose(dense(model.encode(TEXTS)), expected, atol=FP32_TOLERANCE)


def test_sparse_encoder_gives_close_vectors_in_8_bits() -> None:
    model = over_onnx(lambda: splade("bert"), "model_opt1_QInt8.onnx")
    expected = dense(sparse_encoder(splade("bert").checkpoint).encode(TEXTS))
    vectors = np.stack([dense(model.encode(text)) for text in TEXTS])
    assert cosine(vectors, expected).mean() > MEAN_8_BIT


@for_each("route", ["encode_query", "encode_document", "encode"])
def test_sparse_encoder_routes_queries_and_documents_over_onnx(route: str) -> None:
    model = over_onnx(inference_free, "model.onnx")
    original = sparse_encoder(inference_free().checkpoint)
    backbone = model[0].sub_modules["document"][0].auto_model
    assert Path(backbone.path) == inference_free().folder / "onnx/model.onnx"
    given, expected = (dense(getattr(one, route)(TEXTS)) for one in (model, original))
    np.testing.assert_allclose(given, expected, atol=FP32_TOLERANCE)


@for_each("name", ["model.onnx", "model_opt1_Float32.onnx"])
@for_each("architecture", ["bert", "distilbert"])
def test_optimum_gives_the_same_logits(architecture: str, name: str) -> None:
    result = splade(architecture)
    model = ORTModelForMaskedLM.from_pretrained(result.folder, subfolder="onnx", file_name=name)
    assert Path(model.path) == result.folder / "onnx" / name
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    for case in cases(result.checkpoint):
        inputs = {key: torch.from_numpy(value) for key, value in case.inputs.items()}
        logits = model(**inputs).logits.numpy()
        scale = np.abs(case.logits).max()
        assert np.abs(logits - case.logits)[case.mask].max() <= FP32_TOLERANCE * scale, case.name
    assert tokenizer.model_max_length == 48


def test_fastembed_gives_the_same_vectors_from_the_root() -> None:
    model = SparseTextEmbedding(FASTEMBED_NAME, specific_model_path=str(plain().folder), cuda=False)
    expected = dense(sparse_encoder(plain().checkpoint).encode(TEXTS))
    for size in (1, 8):
        for row, found in zip(expected, model.embed(TEXTS, batch_size=size), strict=True):
            vector = np.zeros_like(row)
            vector[found.indices] = found.values
            np.testing.assert_allclose(vector, row, atol=FP32_TOLERANCE)
            assert ((vector > COUNTED) == (row > COUNTED)).all()


@for_each("file", ["onnx/model.onnx", "onnx/model_opt1_Float32.onnx"])
def test_anserini_s_steps_give_the_terms_of_sparse_encoder(file: str) -> None:
    result = splade("bert")
    original = sparse_encoder(result.checkpoint)
    vocabulary = result.folder / f"{result.checkpoint.name}-vocab.txt"
    tokens = vocabulary.read_text(encoding="utf-8").split("\n")
    tokenizer = BertWordPieceTokenizer(WordPiece.read_file(str(vocabulary)), lowercase=True)
    for text in ("what is AI?", "Where do the buses to Pune leave from?"):
        ids = np.array([tokenizer.encode(text).ids])
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        pair = session(result.folder / file).run(["output_idx", "output_weights"], inputs)
        found = {tokens[index]: weight for index, weight in zip(*pair, strict=True)}
        expected = dict(original.decode(original.encode(text)))
        assert len(expected) > 10
        assert counted(found) == counted(expected)
        assert all(abs(found[term] - expected[term]) <= FP32_TOLERANCE for term in counted(found))


def counted(terms: dict[str, Any]) -> set[str]:
    return {term for term, weight in terms.items() if weight > COUNTED}


@for_each(
    ("ours", "theirs"),
    [
        ("encode", "encode"),
        ("encode_queries", "encode_query"),
        ("encode_documents", "encode_document"),
    ],
)
@for_each("conversion", [lambda: splade("bert"), lambda: splade(*SUMMED), plain, inference_free])
def test_the_runtime_gives_the_terms_of_sparse_encoder(
    conversion: Conversion, ours: str, theirs: str
) -> None:
    given = getattr(load(conversion().folder, "onnx/model.onnx"), ours)(TEXTS)
    original = sparse_encoder(conversion().checkpoint)
    for found, pairs in zip(given, original.decode(getattr(original, theirs)(TEXTS)), strict=True):
        expected = dict(pairs)
        assert counted(found) == counted(expected)
        assert all(abs(found[term] - expected[term]) <= FP32_TOLERANCE for term in counted(found))


@for_each(
    ("conversion", "consumers"),
    [
        (plain, {"sentence-transformers", "Optimum", "fastembed", "Retort's runtime"}),
        (inference_free, {"sentence-transformers", "Retort's runtime"}),
        (lambda: splade(*SUMMED), {"sentence-transformers", "Retort's runtime"}),
    ],
)
def test_the_python_code_of_the_card_runs_as_it_stands(
    conversion: Conversion, consumers: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    card = (conversion().folder / "README.md").read_text(encoding="utf-8")
    programs = dict(re.findall(r"\n### ([^\n,]*)[^`]*```python\n(.*?)```", card, re.DOTALL))
    assert programs.keys() == consumers
    for heading, program in programs.items():
        exec(program.replace("path/to/this-folder", str(conversion().folder)), {})
        assert capsys.readouterr().out.strip(), heading


def test_the_card_copies_the_files_that_anserini_wants() -> None:
    card = (plain().folder / "README.md").read_text(encoding="utf-8")
    lines = [line for line in card.splitlines() if line.startswith("cp ")]
    copied = [line.split('"')[1].removeprefix("path/to/this-folder/") for line in lines]
    assert copied == ["onnx/model.onnx", "plain-masked-lm-vocab.txt"]
    assert all((plain().folder / name).is_file() for name in copied)
    summed_up = (inference_free().folder / "README.md").read_text(encoding="utf-8")
    assert "Anserini" not in summed_up, "it feeds three inputs"
