"""``retort inspect``: what graphs say of themselves, whoever wrote them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from found_graphs import pylate_export, with_external_data
from graph_commands import EVERY_GRAPH, GRAPHS, folder_of_ours, operators, run
from onnx import TensorProto, helper


def facts(capsys: pytest.CaptureFixture[str], path: Path) -> list[dict[str, Any]]:
    done = run(capsys, "inspect", path, "--json")
    assert (done.code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@EVERY_GRAPH
def test_inspect_tells_inputs_outputs_axes_operators_and_versions(
    tool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = GRAPHS[tool]()
    model = onnx.load(path)
    (found,) = facts(capsys, path)
    assert [value["name"] for value in found["inputs"]] == [i.name for i in model.graph.input]
    assert [value["name"] for value in found["outputs"]] == [o.name for o in model.graph.output]
    for value in found["inputs"]:
        assert value["type"] == "int64"
        assert len(value["shape"]) == 2
        assert all(isinstance(axis, str) for axis in value["shape"])
    assert found["opsets"] == {"ai.onnx": model.opset_import[0].version}
    assert found["ir_version"] == model.ir_version
    assert found["operators"] == dict(operators(path))
    assert found["nodes"] == len(model.graph.node)
    assert found["initializers"] == len(model.graph.initializer)
    assert found["bytes"] == path.stat().st_size
    assert found["producer"].startswith("pytorch")
    assert (found["fused_operators"], found["quantized_by"]) == ({}, "")
    assert (found["external_data"], found["metadata"]) == ({}, {})


def test_inspect_prints_the_same_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    path = pylate_export() / "model.onnx"
    done = run(capsys, "inspect", path)
    assert (done.code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == str(path)
    for line in (
        f"size 0.3 MB ({path.stat().st_size:,} bytes)",
        "IR version 7",
        "opsets ai.onnx 14",
        "input_ids int64 [batch, sequence]",
        "metadata none",
        "quantized no",
        "fused operators none",
        f"MatMul {operators(path)['MatMul']}",
    ):
        assert line in lines, done.stdout
    assert any(line.startswith("output float32 [batch, sequence, ") for line in lines)


def test_inspect_tells_each_graph_of_a_folder_once_with_all_its_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of_ours()
    found = {Path(graph["file"]).name: graph for graph in facts(capsys, folder)}
    assert list(found) == ["model.onnx", "model_int8.onnx", "model_opt1.onnx"]
    assert found["model_int8.onnx"]["also"] == [str(folder / "onnx" / "model_quantized.onnx")]
    assert found["model_int8.onnx"]["quantized_by"]
    assert found["model_opt1.onnx"]["fused_operators"]["com.microsoft.Attention"] == 2
    assert found["model.onnx"]["metadata"]["family"] == "embedding"
    assert run(capsys, "inspect", folder).stdout.count("also named") == 1


def test_inspect_needs_no_external_data_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_external_data(pylate_export() / "model.onnx", tmp_path)
    size = (tmp_path / "weights.bin").stat().st_size
    (whole,) = facts(capsys, path)
    assert whole["external_data"] == {"weights.bin": size}
    (tmp_path / "weights.bin").unlink()
    (cut,) = facts(capsys, path)
    assert cut == {**whole, "external_data": {"weights.bin": None}}
    assert "weights.bin, MISSING" in run(capsys, "inspect", path).stdout


def test_inspect_tells_lengths_unknown_axes_and_values_that_are_no_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = helper.make_tensor_value_info("fixed", TensorProto.FLOAT, [1, None, "batch"])
    shapeless = helper.make_tensor_value_info("shapeless", TensorProto.FLOAT16, None)
    several = helper.make_tensor_sequence_value_info("several", TensorProto.FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["fixed"], ["several"])
    other = helper.make_node("Cast", ["fixed"], ["shapeless"], to=TensorProto.FLOAT16)
    made = helper.make_graph([node, other], "g", [fixed], [several, shapeless])
    opset = helper.make_opsetid("", 17)
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=8), path)
    (found,) = facts(capsys, path)
    assert found["inputs"] == [{"name": "fixed", "type": "float32", "shape": [1, None, "batch"]}]
    assert found["outputs"] == [
        {"name": "several", "type": "sequence", "shape": None},
        {"name": "shapeless", "type": "float16", "shape": None},
    ]
    shown = run(capsys, "inspect", path).stdout
    assert "float32 [1, ?, batch]" in shown
    assert "float16 of any shape" in shown


def test_inspect_imports_no_torch() -> None:
    script = (
        "import sys; from retort import cli; code = cli.main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    command = [sys.executable, "-c", script, "inspect", str(pylate_export())]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=False).returncode == 0
