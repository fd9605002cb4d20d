"""Quantize: the settings of each target, the choice between two graphs, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from agreement import FLOAT16_COSINE, cosines, sentence_cases
from converted import converted
from onnx import numpy_helper
from staged import ARGUMENTS, checkpoint, optimized, portable
from tiny_checkpoints import build_encoder, build_sentence_transformer
from tiny_variants import with_remote_code

from retort.arguments import ConversionArguments
from retort.artifact import Artifact
from retort.stages.optimize import optimize
from retort.stages.quantize import (
    QuantizeSettings,
    choose_source,
    quantize,
    quantize_settings,
)

LOWEST = {"QInt8": 0.97, "QUInt8": 0.97, "Float16": FLOAT16_COSINE}
PORTABLE, OPTIMIZED = "portable graph", "optimized graph"


def made(precision: str, source: Artifact, folder: Path, **options: object) -> Artifact:
    settings = quantize_settings(ConversionArguments(model_id="", **options), precision)
    return quantize(source, settings, folder)


def lowest_cosine(artifact: Artifact) -> float:
    cases = sentence_cases(checkpoint().folder)
    return float(cosines(artifact.path, cases, "sentence_embedding").min())


@pytest.mark.parametrize("precision", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("target", ["auto", "avx2", "avx512_vnni", "arm64"])
def test_pairs_of_weights_fit_16_bits_wherever_signed_ones_could_saturate(
    target: str, precision: str
) -> None:
    arguments = ConversionArguments(model_id="", target=target, recipe="plain")
    settings = quantize_settings(arguments, precision)
    saturates = target in ("auto", "avx2") and precision == "QInt8"
    expected = QuantizeSettings(precision, target, True, False, False, pairs=saturates)
    assert replace(settings, min_fidelity=0.0) == expected


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("target", ["avx2", "arm64"])
def test_the_user_s_word_on_seven_bit_weights_holds_for_every_target(
    target: str, wanted: bool
) -> None:
    arguments = ConversionArguments(model_id="", target=target, reduce_range=wanted)
    assert quantize_settings(arguments, "QInt8").reduce_range is wanted
    assert quantize_settings(arguments, "QUInt8").reduce_range is wanted


def positive_and_negative_sums(matrix: np.ndarray) -> np.ndarray:
    """Return what two weights below each other sum up to at most, by sign."""
    pairs = matrix[: len(matrix) // 2 * 2].astype(int).reshape(-1, 2, matrix.shape[1])
    return np.stack([np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1)])


@pytest.mark.parametrize("source", [PORTABLE, OPTIMIZED])
def test_two_products_never_leave_16_bits_unless_the_target_has_vnni(
    source: str, tmp_path: Path
) -> None:
    graph = portable() if source == PORTABLE else optimized()
    safe = made("QInt8", graph, tmp_path / "safe")
    exact = made("QInt8", graph, tmp_path / "exact", target="avx512_vnni")
    largest = [
        max(positive_and_negative_sums(w).max() for w in signed_weights(a)) for a in (safe, exact)
    ]
    assert 255 * largest[0] < 2**15 <= 255 * largest[1]


def test_safe_weights_give_the_same_with_and_without_saturation(tmp_path: Path) -> None:
    artifact = made("QInt8", optimized(), tmp_path / "out")
    found = []
    for exact in ("0", "1"):  # of ONNX Runtime: multiply signed weights as unsigned ones
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", exact)
        session = onnxruntime.InferenceSession(artifact.path, options)
        cases = sentence_cases(checkpoint().folder)
        found.append([session.run(["sentence_embedding"], case.inputs)[0] for case in cases])
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))


def signed_weights(artifact: Artifact) -> list[np.ndarray]:
    """Return the int8 matrices of a graph; its embeddings are unsigned."""
    tensors = onnx.load(artifact.path).graph.initializer
    return [numpy_helper.to_array(i) for i in tensors if i.data_type == i.INT8 and len(i.dims) == 2]


@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 64)])
def test_seven_bit_weights_are_within_seven_bits(
    reduce_range: bool, largest: int, tmp_path: Path
) -> None:
    artifact = made("QInt8", optimized(), tmp_path / "out", reduce_range=reduce_range)
    assert max(np.abs(matrix.astype(int)).max() for matrix in signed_weights(artifact)) == largest


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_weight_has_one_scale_for_each_channel_unless_one_is_asked_for(
    per_channel: bool, tmp_path: Path
) -> None:
    artifact = made("QInt8", optimized(), tmp_path / "out", per_channel=per_channel)
    graph = onnx.load(artifact.path).graph
    scales = [i for i in graph.initializer if i.name.endswith("_scale") and "word" not in i.name]
    assert scales
    assert any(len(scale.dims) and scale.dims[0] > 1 for scale in scales) is per_channel


def test_the_optimized_graph_is_chosen_where_its_attention_is_fused(tmp_path: Path) -> None:
    # With this model type ORTOptimizer fuses no attention.
    unknown = replace(checkpoint(), folder=with_remote_code(build_encoder(tmp_path / "a", "bert")))
    unfused = optimize(
        portable(), replace(unknown, trust_remote_code=True), 1, tmp_path / "optimize"
    )
    assert choose_source(optimized(), portable()) == optimized()
    assert choose_source(unfused, portable()) == portable()
    assert choose_source(None, portable()) == portable()


@pytest.mark.parametrize(
    ("naming", "architecture", "source"),
    [
        ("transformers.js", "bert", OPTIMIZED),
        ("transformers.js", "qwen3", PORTABLE),
        ("opt_level", "bert", OPTIMIZED),
        ("opt_level", "qwen3", OPTIMIZED),  # the file's name promises it
    ],
)
def test_the_record_says_which_graph_was_quantized(
    naming: str, architecture: str, source: str, tmp_path: Path
) -> None:
    folder = build_sentence_transformer(tmp_path / "checkpoint", architecture)
    files = converted(folder, quantize=["QInt8"], file_naming=naming).json("conversion.json")
    (record,) = (file for file in files["files"].values() if file["precision"] == "QInt8")
    (step,) = (step for step in record["steps"] if step["name"] == "quantize")
    assert step["settings"]["from"] == source
    assert ("optimize" in [step["name"] for step in record["steps"]]) is (source == OPTIMIZED)


@pytest.mark.parametrize("precision", LOWEST)
@pytest.mark.parametrize("graph", [PORTABLE, OPTIMIZED])
def test_every_precision_of_both_graphs_keeps_the_vectors(
    precision: str, graph: str, tmp_path: Path
) -> None:
    source = portable() if graph == PORTABLE else optimized()
    artifact = made(precision, source, tmp_path / "out")
    assert artifact.precision == precision
    assert artifact.steps[-1].settings["from"] == graph
    assert lowest_cosine(artifact) >= LOWEST[precision]


@pytest.mark.parametrize("precision", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("graph", [PORTABLE, OPTIMIZED])
def test_products_of_two_activations_stay_in_fp32(
    precision: str, graph: str, tmp_path: Path
) -> None:
    source = portable() if graph == PORTABLE else optimized()
    artifact = made(precision, source, tmp_path / "out")
    nodes = onnx.load(artifact.path).graph.node
    constants = {i.name for i in onnx.load(artifact.path).graph.initializer}
    integer = [node for node in nodes if node.op_type == "MatMulInteger"]
    floating = [node for node in nodes if node.op_type == "MatMul"]
    attention = [node for node in nodes if node.op_type == "QAttention"]
    assert all(node.input[1] in constants for node in integer)
    assert not any(constants & set(node.input) for node in floating)
    # Two layers: four weights of attention and two more each; two products of activations each.
    is_portable = graph == PORTABLE
    assert (len(integer), len(attention)) == ((12, 0) if is_portable else (6, 2))
    assert len(floating) == (4 if is_portable else 0)
    excluded = artifact.steps[-1].settings["excluded_activation_matmuls"]
    assert excluded == len(floating)


@pytest.mark.parametrize("level", [0, 1])
def test_all_precisions_can_be_had_without_shape_inference(level: int, tmp_path: Path) -> None:
    folder = build_sentence_transformer(tmp_path / "checkpoint", "bert")
    result = converted(folder, quantize=list(LOWEST), optimize=level, skip_shape_inference=True)
    for name, record in result.json("conversion.json")["files"].items():
        found = cosines(result.folder / name, sentence_cases(folder), "sentence_embedding")
        assert found.min() >= LOWEST.get(record["precision"], 0.99999), name


def test_the_target_of_the_settings_is_recorded(tmp_path: Path) -> None:
    settings = quantize_settings(ARGUMENTS, "QInt8")
    artifact = quantize(optimized(), settings, tmp_path / "out")
    recorded = artifact.steps[-1].settings
    assert recorded["target"] == "auto"
    assert recorded["pairs_fit_16_bits"] is True
    assert recorded["reduce_range"] is False
    assert recorded["per_channel"] is True
