"""``retort quantize``: 8 and 16 bits of graphs that any tool may have written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from command_line import contents
from found_graphs import without_matrices
from graph_commands import (
    EVERY_GRAPH,
    LOWEST,
    SUFFIXES,
    assert_header_is_settled,
    copied,
    error_of,
    folder_of_ours,
    lowest_cosine,
    operators,
    run,
)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a copy of pylate-onnx-export's graph, alone in a folder."""
    return copied("pylate-onnx-export", tmp_path / "there")


def declared(path: Path) -> list[int | str]:
    """Return the sizes or the names of the axes of all outputs of a graph."""
    outputs = onnx.load(str(path), load_external_data=False).graph.output
    shapes = [value.type.tensor_type.shape for value in outputs]
    return [axis.dim_param or axis.dim_value for shape in shapes for axis in shape.dim]


@EVERY_GRAPH
@pytest.mark.parametrize("dtype", SUFFIXES)
def test_quantize_writes_every_precision_beside_the_graph(
    tool: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(tool, tmp_path / "there")
    before = contents(path.parent)
    made = path.with_name(f"{path.stem}_{SUFFIXES[dtype]}.onnx")
    done = run(capsys, "quantize", path, "--dtype", dtype)
    assert (done.code, done.stdout) == (0, f"{made}\n")
    megabytes = f"{path.stat().st_size / 1e6:.1f} MB → {made.name}, {made.stat().st_size / 1e6:.1f}"
    assert megabytes in done.stderr
    assert contents(path.parent).keys() == {path.name, made.name}
    assert contents(path.parent)[path.name] == before[path.name]
    assert_header_is_settled(made)
    assert made.stat().st_size < 0.7 * path.stat().st_size
    assert lowest_cosine(path, made) > LOWEST[dtype]
    # A size may become known; an axis that stays dynamic keeps its name.
    kept = zip(declared(made), declared(path), strict=True)
    assert all(new == old or isinstance(new, int) for new, old in kept)


@pytest.mark.parametrize("dtype", SUFFIXES)
@pytest.mark.parametrize("tool", ["pylate-onnx-export", "Anserini"])
def test_fused_graphs_can_be_quantized(
    tool: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(tool, tmp_path / "there")
    assert run(capsys, "optimize", path).code == 0
    fused = path.with_name(f"{path.stem}_opt1.onnx")
    done = run(capsys, "quantize", fused, "--dtype", dtype)
    made = path.with_name(f"{path.stem}_opt1_{SUFFIXES[dtype]}.onnx")
    assert (done.code, done.stdout) == (0, f"{made}\n")
    assert operators(made)["Attention" if dtype == "Float16" else "QAttention"] == 2
    assert_header_is_settled(made)
    assert lowest_cosine(path, made) > LOWEST[dtype]


def test_the_precision_is_qint8_by_default(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "quantize", graph).stdout == f"{graph.with_name('model_int8.onnx')}\n"


def test_a_precision_may_be_written_in_small_letters_as_for_convert(
    graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(capsys, "quantize", graph, "--dtype", "float16")
    assert done.stdout == f"{graph.with_name('model_fp16.onnx')}\n"


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {"per_channel": True, "reduce_range": False}),
        (["--no_per_channel"], {"per_channel": False}),
        (["--no_per_channel", "--per_channel"], {"per_channel": True}),
        (["--reduce_range"], {"reduce_range": True}),
        (["--target", "avx2"], {"reduce_range": False, "pairs_fit_16_bits": True}),
        (["--target", "avx2", "--no_reduce_range"], {"pairs_fit_16_bits": False}),
    ],
)
def test_the_options_of_8_bits_are_those_of_convert(
    options: list[str],
    settings: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(folder_of_ours(), tmp_path / "model")
    words = ["--target", "arm64", *options, "--output", folder / "new.onnx"]
    assert run(capsys, "quantize", folder / "onnx" / "model.onnx", *words).code == 0
    record = json.loads((folder / "conversion.json").read_text(encoding="utf-8"))
    step = record["files"]["new.onnx"]["steps"][-2]
    assert step["name"] == "quantize"
    assert settings.items() <= step["settings"].items()


def test_a_graph_without_matrices_ends_with_one_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(without_matrices(), tmp_path)
    for dtype in ("QInt8", "Float16"):
        done = run(capsys, "quantize", tmp_path / "relu.onnx", "--dtype", dtype)
        assert f"nothing in it could be made {dtype}" in error_of(done, code=1)
    assert contents(tmp_path).keys() == {"relu.onnx"}


def test_8_bits_that_fit_into_one_file_are_one_file(
    graph: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = (graph.stat().st_size * 2) // 3
    for module in ("retort.graphs.onnx_file", "retort.made_file"):
        monkeypatch.setattr(f"{module}.LARGEST_SINGLE_FILE", limit)
    assert run(capsys, "quantize", graph).code == 0
    assert contents(graph.parent).keys() == {"model.onnx", "model_int8.onnx"}
    assert lowest_cosine(graph, graph.with_name("model_int8.onnx")) > 0.97
