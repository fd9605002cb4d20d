"""The rules for the graphs of a converted folder: what old and new runtimes can open and read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from converted import (
    EVERY,
    LATE,
    SENTENCES,
    TAGGERS,
    Conversion,
    external_data,
    files_of,
    minilm,
    named_by_level,
    projected,
    tagger,
)
from onnx import TensorProto
from tiny_checkpoints import LABELS

for_each = pytest.mark.parametrize


def domains_used(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.domain
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from domains_used(attribute.g)


def shapes(values: list[onnx.ValueInfoProto]) -> list[tuple[str, int, list[str | int]]]:
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


def locations(model: onnx.ModelProto) -> set[str]:
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


@for_each("conversion", SENTENCES)
def test_an_embedding_graph_gives_token_vectors_first_and_the_pooled_vector_second(
    conversion: Conversion,
) -> None:
    widths: dict[Conversion, tuple[int, int]] = {minilm: (384, 384), projected: (32, 20)}
    width, pooled = widths.get(conversion, (32, 32))
    for name in conversion().graphs:
        assert shapes(conversion().graph(name).graph.output) == [
            ("last_hidden_state", TensorProto.FLOAT, ["batch_size", "sequence_length", width]),
            ("sentence_embedding", TensorProto.FLOAT, ["batch_size", pooled]),
        ]


@for_each("conversion", TAGGERS)
def test_a_token_classification_graph_gives_logits_alone(conversion: Conversion) -> None:
    axes = ["batch_size", "sequence_length", len(LABELS)]
    for name in conversion().graphs:
        output = conversion().graph(name).graph.output
        assert shapes(output) == [("logits", TensorProto.FLOAT, axes)]


@for_each("conversion", LATE)
def test_a_colbert_graph_gives_token_vectors_under_two_names(conversion: Conversion) -> None:
    axes = ["batch_size", "sequence_length", 16]
    for name in conversion().graphs:
        assert shapes(conversion().graph(name).graph.output) == [
            ("output", TensorProto.FLOAT, axes),
            ("token_embeddings", TensorProto.FLOAT, axes),
        ]


@for_each("conversion", EVERY)
def test_every_graph_takes_int64_tokens_of_any_batch_and_length(conversion: Conversion) -> None:
    is_bert = conversion().json("config.json")["model_type"] == "bert"
    has_types = is_bert and conversion not in LATE
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if has_types else [])]
    axes = ["batch_size", "sequence_length"]
    for name in conversion().graphs:
        inputs = shapes(conversion().graph(name).graph.input)
        assert inputs == [(given, TensorProto.INT64, axes) for given in names]


@for_each(
    ("conversion", "name"),
    [
        (minilm, "onnx/model_fp16.onnx"),
        (tagger, "onnx/model_fp16.onnx"),
        (named_by_level, "onnx/model_opt2_Float16.onnx"),
    ],
)
def test_a_16_bit_graph_has_16_bit_weights_and_float32_outputs(
    conversion: Conversion, name: str
) -> None:
    graph = conversion().graph(name).graph
    assert {value.type.tensor_type.elem_type for value in graph.output} == {TensorProto.FLOAT}
    matrices = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2}
    assert matrices - {TensorProto.INT64} == {TensorProto.FLOAT16}


@for_each("conversion", EVERY)
def test_every_graph_opens_in_old_runtimes(conversion: Conversion) -> None:
    for name in conversion().graphs:
        model = conversion().graph(name)
        imports = {opset.domain: opset.version for opset in model.opset_import}
        assert model.ir_version <= 9, name
        assert imports[""] <= 20, name
        assert set(imports) == set(domains_used(model.graph)), f"{name} imports what it never uses"


def test_external_data_lies_in_one_file_named_after_its_graph() -> None:
    where = {name: locations(external_data().graph(name)) for name in external_data().graphs}
    assert {name: files for name, files in where.items() if files} == {
        "onnx/model.onnx": {"model.onnx_data"},
        "onnx/model_opt1.onnx": {"model_opt1.onnx_data"},
    }
    others = files_of(external_data().folder / "onnx") - {Path(name).name for name in where}
    assert others == {"model.onnx_data", "model_opt1.onnx_data"}


def test_external_data_is_declared_for_transformers_js() -> None:
    declared = external_data().json("config.json")["transformers.js_config"]
    assert declared == {"use_external_data_format": {"model.onnx": True, "model_opt1.onnx": True}}


def test_external_data_that_an_older_export_declared_is_forgotten() -> None:
    path = projected().checkpoint / "config.json"
    before = json.loads(path.read_text(encoding="utf-8"))["transformers.js_config"]
    assert before["use_external_data_format"] == {"model.onnx": True}
    after = projected().json("config.json").get("transformers.js_config", {})
    assert not after.get("use_external_data_format"), "it would look for a file that is not there"


@for_each("name", ["onnx/model.onnx", "onnx/model_opt1.onnx"])
def test_whoever_may_read_a_graph_may_read_its_external_data(name: str) -> None:
    graph, data = external_data().folder / name, external_data().folder / f"{name}_data"
    assert oct(data.stat().st_mode) == oct(graph.stat().st_mode)


@for_each(
    ("conversion", "other_name"),
    [
        (minilm, "model_int8.onnx"),
        (tagger, "model_int8.onnx"),
        (external_data, "model_int8.onnx"),
        (projected, "model_uint8.onnx"),
    ],
)
def test_the_two_names_of_an_8_bit_graph_are_hard_links(
    conversion: Conversion, other_name: str
) -> None:
    folder = conversion().folder / "onnx"
    assert (folder / "model_quantized.onnx").samefile(folder / other_name)


def test_files_named_by_level_are_made_from_the_graph_of_that_level() -> None:
    fused = [name for name in named_by_level().graphs if name != "onnx/model.onnx"]
    assert fused == [
        "onnx/model_opt2_Float16.onnx",
        "onnx/model_opt2_Float32.onnx",
        "onnx/model_opt2_QInt8.onnx",
        "onnx/model_opt2_QUInt8.onnx",
    ]
    for name in fused:
        operators = {node.op_type for node in named_by_level().graph(name).graph.node}
        assert "SkipLayerNormalization" in operators, name
