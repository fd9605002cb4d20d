"""Export and optimize: graphs agree with PyTorch at every opset and level, inputs untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
from agreement import FP32_TOLERANCE, largest_difference, sentence_cases
from converted import converted
from local_models import resolved
from staged import ARGUMENTS, checkpoint, hashes, optimized, portable, with_external_data
from tiny_checkpoints import build_encoder, build_sentence_transformer
from tiny_variants import with_remote_code

import convert
from onnx_configs import families
from retort.arguments import ConversionArguments, ExportArguments
from retort.artifact import Artifact, graph_bytes, graph_files, graph_sha256
from retort.errors import InputError
from retort.graphs.onnx_file import summarize
from retort.stages.export import export
from retort.stages.optimize import optimize
from retort.stages.package import place_graphs
from retort.stages.quantize import quantize, quantize_settings

GRAPHS = {"one file": portable, "external data": with_external_data}


def assert_agrees(path: Path) -> None:
    worst, where = largest_difference(path, sentence_cases(checkpoint().folder))
    assert worst <= FP32_TOLERANCE, where


def export_at(opset: int | None, folder: Path, device: str = "cpu") -> Artifact:
    arguments = ExportArguments(opset=opset, device=device)
    return export(checkpoint(), families()["embedding"], arguments, folder)


@pytest.mark.parametrize("opset", [14, 17, 20])
def test_the_asked_for_opset_is_in_the_portable_and_in_the_optimized_graph(
    opset: int, tmp_path: Path
) -> None:
    exported = export_at(opset, tmp_path / "export")
    fused = optimize(exported, checkpoint(), 1, tmp_path / "optimize")
    assert summarize(exported.path).opset == summarize(fused.path).opset == opset
    assert summarize(fused.path).fused_operators["Attention"] == 2
    assert_agrees(exported.path)
    assert_agrees(fused.path)


def test_the_opset_is_18_where_none_is_asked_for() -> None:
    assert summarize(portable().path).opset == 18


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    arguments = ConversionArguments(model_id=str(checkpoint().folder), device=device)
    with pytest.raises(InputError, match=f"--device {device}: this PyTorch has no such device"):
        convert.decide(arguments)


def test_level_0_leaves_optimization_out(tmp_path: Path) -> None:
    folder = build_sentence_transformer(tmp_path / "checkpoint", "bert")
    result = converted(folder, optimize=0)
    assert result.graphs == ["onnx/model.onnx"]
    steps = result.json("conversion.json")["files"]["onnx/model.onnx"]["steps"]
    assert [step["name"] for step in steps] == ["export", "place"]


@pytest.mark.parametrize("level", [2, 99])
def test_a_graph_optimized_further_agrees_too(
    level: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fused = optimize(portable(), checkpoint(), level, tmp_path / "optimize")
    assert fused.steps[-1].settings["level"] == level
    assert summarize(fused.path).fused_operators["Attention"] == 2
    assert_agrees(fused.path)
    assert ("bakes this processor's layouts" in caplog.text) is (level == 99)


def test_without_shape_inference_the_optimized_graph_agrees(tmp_path: Path) -> None:
    fused = optimize(portable(), checkpoint(), 1, tmp_path / "optimize", skip_shape_inference=True)
    assert fused.steps[-1].settings["skip_shape_inference"] is True
    assert_agrees(fused.path)


def test_the_fused_operators_are_counted() -> None:
    assert summarize(portable().path).fused_operators == {}
    assert summarize(optimized().path).fused_operators == {
        "Attention": 2,
        "BiasGelu": 2,
        "SkipLayerNormalization": 4,
    }


def test_the_step_says_where_optimum_does_not_know_the_architecture(tmp_path: Path) -> None:
    source = with_remote_code(build_encoder(tmp_path / "checkpoint", "bert"))
    unknown = resolved(source, trust_remote_code=True)
    fused = optimize(portable(), unknown, 1, tmp_path / "optimize")
    assert "ONNX Runtime's optimizations only" in fused.steps[-1].settings["optimizer"]
    assert optimized().steps[-1].settings["optimizer"] == "ORTOptimizer"
    assert_agrees(fused.path)


@pytest.mark.parametrize("kind", GRAPHS)
def test_no_stage_changes_the_files_of_its_input(kind: str, tmp_path: Path) -> None:
    source = GRAPHS[kind]()
    assert len(graph_files(source.path)) == (2 if kind == "external data" else 1)
    before = hashes(source.path.parent), hashes(checkpoint().folder)
    optimize(source, checkpoint(), 1, tmp_path / "optimize")
    for precision in ("QInt8", "Float16"):
        settings = quantize_settings(ARGUMENTS, precision)
        quantize(source, settings, tmp_path / precision)
    assert (hashes(source.path.parent), hashes(checkpoint().folder)) == before


def test_placing_a_graph_leaves_it_as_it_is(tmp_path: Path) -> None:
    before = hashes(portable().path.parent)
    placed = place_graphs({"onnx/model.onnx": portable()}, checkpoint(), tmp_path)
    assert hashes(portable().path.parent) == before
    assert_agrees(placed["onnx/model.onnx"].path)


def test_every_step_says_what_it_made(tmp_path: Path) -> None:
    settings = quantize_settings(ConversionArguments(model_id=""), "QUInt8")
    made = quantize(optimized(), settings, tmp_path / "quantize")
    assert [step.name for step in made.steps] == ["export", "optimize", "quantize"]
    for artifact in (portable(), optimized(), made):
        step = artifact.steps[-1]
        assert step.bytes == graph_bytes(artifact.path)
        assert step.sha256 == graph_sha256(artifact.path)
        assert step.seconds > 0
