"""``retort optimize``: fused graphs that give the same, whoever wrote the graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import contents
from converted import converted
from found_graphs import without_matrices
from graph_commands import (
    EVERY_GRAPH,
    FUSED_IN_BERT,
    GRAPHS,
    assert_header_is_settled,
    assert_same_outputs,
    copied,
    error_of,
    operators,
    run,
)
from onnx import TensorProto, helper
from tiny_checkpoints import build_encoder

from retort import optimize_file
from retort.graphs.made_up_inputs import difference_of_outputs


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a copy of pylate-onnx-export's graph, alone in a folder."""
    return copied("pylate-onnx-export", tmp_path / "there")


@EVERY_GRAPH
def test_optimize_writes_a_fused_graph_with_the_same_outputs_beside_the_first(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(tool, tmp_path / "there")
    before = contents(path.parent)
    made = path.with_name(f"{path.stem}_opt1.onnx")
    done = run(capsys, "optimize", path)
    assert (done.code, done.stdout) == (0, f"{made}\n")
    assert contents(path.parent).keys() == {path.name, made.name}
    assert contents(path.parent)[path.name] == before[path.name]
    assert_same_outputs(path, made)
    assert_header_is_settled(made)
    found = operators(made)
    assert found.total() < operators(path).total()
    if "ModernBERT" not in tool:
        assert {name: found[name] for name in FUSED_IN_BERT} == FUSED_IN_BERT


@pytest.mark.parametrize("level", [1, 2])
def test_the_level_is_in_the_name(
    level: int, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = graph.with_name(f"model_opt{level}.onnx")
    assert run(capsys, "optimize", graph, "--level", str(level)).stdout == f"{made}\n"
    assert_same_outputs(graph, made)


def test_stats_show_both_graphs_side_by_side(
    graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(capsys, "optimize", graph, "--stats")
    *table, path = done.stdout.splitlines()
    rows = {name: figures for name, *figures in map(str.split, table[1:8])}
    before, after = onnx.load(graph).graph, onnx.load(path).graph
    for name, values in {
        "nodes": (before.node, after.node),
        "inputs": (before.input, after.input),
        "outputs": (before.output, after.output),
        "initializers": (before.initializer, after.initializer),
    }.items():
        assert rows[name] == [str(len(value)) for value in values]
    for name, count in FUSED_IN_BERT.items():
        assert rows[f"com.microsoft.{name}"] == ["0", str(count)]
    (told,) = (line for line in table if line.startswith("largest difference: "))
    assert float(told.split()[-1]) < 1e-4


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("nowhere", "unknown; fused by structure, where it is that of BERT"),
        ("metadata", "its metadata"),
        ("beside", "config.json beside it"),
        ("above", "config.json one level up"),
        ("of no architecture that is known", "unknown; fused by structure"),
    ],
)
def test_heads_come_from_metadata_or_a_config_or_are_counted(
    where: str, told: str, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"model_type": "bert", "num_attention_heads": 4, "hidden_size": 32}
    if where == "metadata":
        model = onnx.load(graph)
        onnx.helper.set_model_props(
            model, {"model_type": "bert", "num_heads": "4", "hidden_size": "32"}
        )
        onnx.save(model, graph)
    elif where != "nowhere":
        folder = graph.parent.parent if where == "above" else graph.parent
        change = {"model_type": "of_its_own"} if "no arch" in where else {}
        text = json.dumps({**config, **change, "auto_map": {"AutoConfig": "evil.Config"}})
        (folder / "config.json").write_text(text, encoding="utf-8")
    done = run(capsys, "optimize", graph, "--stats")
    assert done.code == 0
    assert f"architecture: {told}" in done.stdout
    assert "neither metadata nor a config.json tell its architecture" in done.stderr or (
        "unknown" not in told
    )
    assert operators(graph.with_name("model_opt1.onnx"))["Attention"] == 2


@pytest.mark.parametrize("architecture", ["distilbert", "qwen3"])
def test_of_a_graph_of_ours_alone_the_same_is_fused_as_in_its_conversion(
    architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = converted(build_encoder(tmp_path / "checkpoint", architecture)).folder
    graph = Path(shutil.copy(folder / "onnx" / "model.onnx", tmp_path))
    assert run(capsys, "optimize", graph).code == 0
    assert operators(tmp_path / "model_opt1.onnx") == operators(folder / "onnx" / "model_opt1.onnx")


def test_a_graph_without_anything_to_fuse_is_written_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copy(without_matrices(), tmp_path)
    assert run(capsys, "optimize", path).code == 0
    assert operators(tmp_path / "relu_opt1.onnx") == {"Relu": 1}


def test_a_fused_graph_that_differs_is_not_written(
    graph: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize_file, "TOLERANCE", -1.0)
    done = run(capsys, "optimize", graph)
    assert "the fused graph differs from it by" in error_of(done, code=1)
    assert list(graph.parent.iterdir()) == [graph]


def test_two_graphs_are_compared_on_made_up_inputs(tmp_path: Path) -> None:
    path = GRAPHS["Optimum"]()
    assert difference_of_outputs(path, path) == 0
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("word_embeddings.weight"):
            values = onnx.numpy_helper.to_array(tensor) * 1.01
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "changed.onnx")
    found = difference_of_outputs(path, tmp_path / "changed.onnx")
    assert found is not None
    assert 1e-3 < found < 1


def test_a_value_that_is_not_finite_in_one_graph_is_an_infinite_difference(tmp_path: Path) -> None:
    def saved(operator: str) -> Path:
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])
        nodes = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node(operator, "zz", "y")]
        made = helper.make_graph(nodes, "g", [value], [result])
        opset = helper.make_opsetid("", 17)
        onnx.save(
            helper.make_model(made, opset_imports=[opset], ir_version=8),
            tmp_path / f"{operator}.onnx",
        )
        return tmp_path / f"{operator}.onnx"

    assert difference_of_outputs(saved("Add"), saved("Div")) == np.inf
    assert difference_of_outputs(saved("Div"), saved("Div")) == 0


def test_a_graph_that_takes_no_made_up_inputs_is_optimized_and_the_user_warned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = helper.make_tensor_value_info("words", TensorProto.STRING, ["batch"])
    result = helper.make_tensor_value_info("same", TensorProto.STRING, ["batch"])
    node = helper.make_node("Identity", ["words"], ["same"])
    made = helper.make_graph([node], "g", [value], [result])
    opset = helper.make_opsetid("", 17)
    path = tmp_path / "words.onnx"
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=8), path)
    done = run(capsys, "optimize", path, "--stats")
    assert done.code == 0
    assert "largest difference: not compared" in done.stdout
    assert "its outputs could not be compared" in done.stderr
