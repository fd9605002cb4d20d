"""The real all-MiniLM-L6-v2, converted with full validation: the figures that users will see."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import (
    FLOAT16_COSINE,
    FP32_TOLERANCE,
    LONGEST,
    TEXTS,
    cosines,
    largest_difference,
    sentence_cases,
    sentence_transformer,
)
from converted import MINILM, minilm, workshop

import convert
from retort.arguments import ConversionArguments
from retort.report import FileReport
from retort.runtime import load
from retort.texts import validation_texts

LAYERS = 6
PORTABLE, OPTIMIZED = "onnx/model.onnx", "onnx/model_opt1_Float32.onnx"
INT8 = "onnx/model_opt1_QInt8.onnx"


@cache
def validated() -> convert.Conversion:
    return convert.convert(
        ConversionArguments(
            model_id=str(MINILM),
            output_parent_dir=str(workshop() / "validated"),
            quantize=["QInt8"],
            file_naming="opt_level",  # the 8-bit file is then always of the optimized graph
            recipe="plain",
        )
    )


def rows() -> dict[str, FileReport]:
    report = validated().report
    assert report is not None
    return {row.file: row for row in report.files}


def operators(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(file).graph.node)


def test_every_file_has_a_row_against_sentence_transformers_on_all_texts() -> None:
    report = validated().report
    assert report is not None
    assert list(rows()) == [PORTABLE, OPTIMIZED, INT8]
    assert [row.precision for row in report.files] == ["fp32", "fp32", "QInt8"]
    assert report.reference.startswith("sentence-transformers ")
    assert report.texts == len(validation_texts())
    for row in report.files:
        assert row.bytes == (validated().plan.target / row.file).stat().st_size


def test_the_fp32_files_differ_by_at_most_a_ten_thousandth() -> None:
    assert rows()[PORTABLE].largest_difference <= FP32_TOLERANCE
    assert rows()[OPTIMIZED].largest_difference <= FP32_TOLERANCE


def test_the_8_bit_file_is_as_close_as_promised_and_a_quarter_of_the_size() -> None:
    row = rows()[INT8]
    assert row.fidelity_mean >= 0.985
    assert row.fidelity_min >= 0.95
    assert row.bytes < 0.27 * rows()[PORTABLE].bytes


def test_the_optimized_graph_has_all_its_fused_operators() -> None:
    fused = {
        "Attention": LAYERS,
        "BiasGelu": LAYERS,
        "SkipLayerNormalization": 2 * LAYERS,
    }
    assert rows()[OPTIMIZED].fused_operators == fused
    assert rows()[PORTABLE].fused_operators == {}
    found = operators(validated().plan.target / OPTIMIZED)
    assert {name: found[name] for name in fused} == fused
    assert found["MatMul"] == 3 * LAYERS


def test_the_8_bit_graph_quantizes_every_weight_and_no_product_of_activations() -> None:
    found = operators(validated().plan.target / INT8)
    # One product with weights after attention, two in the feed-forward part of each layer.
    assert (found["QAttention"], found["MatMulInteger"]) == (LAYERS, 3 * LAYERS)
    assert (found["Attention"], found["MatMul"]) == (0, 0)


def test_the_record_holds_the_report() -> None:
    result = validated()
    assert result.report is not None
    record = json.loads((result.plan.target / "conversion.json").read_text(encoding="utf-8"))
    assert record["validated"] is True
    assert record["validation"] == json.loads(json.dumps(result.report.as_json()))
    assert record["report"] == "report.html"
    assert (result.plan.target / "report.html").read_text(encoding="utf-8").count("<svg") == 3


def test_the_files_made_without_validation_agree_as_well() -> None:
    cases = sentence_cases(minilm().checkpoint)
    lowest = {
        "onnx/model_quantized.onnx": 0.95,
        "onnx/model_uint8.onnx": 0.95,
        "onnx/model_fp16.onnx": FLOAT16_COSINE,
    }
    for file in ("onnx/model.onnx", "onnx/model_opt1.onnx"):
        worst, where = largest_difference(minilm().folder / file, cases)
        assert worst <= FP32_TOLERANCE, f"{file}: {where}"
    for file, least in lowest.items():
        found = cosines(minilm().folder / file, cases, "sentence_embedding")
        assert found.min() >= least, file


@pytest.mark.parametrize("file", [PORTABLE, OPTIMIZED])
def test_the_runtime_encodes_as_sentence_transformers_does(file: str) -> None:
    texts = ["", *TEXTS, LONGEST]
    expected = sentence_transformer(MINILM).encode(texts)
    vectors = load(validated().plan.target, file).encode(texts)
    np.testing.assert_allclose(vectors, expected, atol=FP32_TOLERANCE)
