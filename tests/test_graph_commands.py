"""What ``retort optimize`` and ``quantize`` share: which graphs they take, and what they write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from command_line import contents
from found_graphs import pylate_export, with_external_data
from graph_commands import copied, error_of, folder_of_ours, lowest_cosine, run
from local_models import POINTER

both = pytest.mark.parametrize("verb", ["optimize", "quantize"])
DEFAULTS = {"optimize": "model_opt1.onnx", "quantize": "model_int8.onnx"}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a copy of pylate-onnx-export's graph, alone in a folder."""
    return copied("pylate-onnx-export", tmp_path / "there")


@both
def test_the_output_is_where_it_is_wanted(
    verb: str, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made.onnx"
    assert run(capsys, verb, graph, "--output", output).stdout == f"{output}\n"
    assert list(graph.parent.iterdir()) == [graph]
    assert onnx.load(output).graph.node


@both
def test_an_existing_file_is_replaced_by_force_only(
    verb: str, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = graph.with_name(DEFAULTS[verb])
    there.write_text("old")
    done = run(capsys, verb, graph)
    assert error_of(done).endswith(f"{there} exists; pass --force to replace it")
    assert there.read_text() == "old"
    assert run(capsys, verb, graph, "--force").code == 0
    assert onnx.load(there).graph.node


@both
def test_the_graph_itself_is_never_the_output(
    verb: str, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(graph.parent)
    (graph.parent / "link").symlink_to(graph.parent)
    for output in (graph, graph.parent / "link" / graph.name):
        done = run(capsys, verb, graph, "--output", output, "--force")
        assert "is what is read; choose another --output" in error_of(done)
    (graph.parent / "link").unlink()
    assert contents(graph.parent) == before


@both
def test_of_a_folder_the_graph_is_taken_that_a_runtime_opens(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(folder_of_ours(), tmp_path / "model")
    made = folder / "onnx" / DEFAULTS[verb]
    assert run(capsys, verb, folder, "--force").stdout == f"{made}\n"


@both
@pytest.mark.parametrize("name", ["weights.bin", "model.onnx.data", "model.onnx_data"])
def test_external_data_of_any_name_is_read_and_left_alone(
    verb: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_external_data(pylate_export() / "model.onnx", tmp_path / "there", name)
    before = contents(path.parent)
    assert run(capsys, verb, path).code == 0
    made = path.with_name(DEFAULTS[verb])
    after = contents(path.parent)
    assert after.keys() - before.keys() == {made.name}, "it fits into one file"
    assert {key: after[key] for key in before} == before
    assert lowest_cosine(path, made) > 0.97


@both
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_external_data_is_read_through_links_as_the_hub_s_cache_has_them(
    verb: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = pylate_export() / "model.onnx"
    path = with_external_data(graph, tmp_path / "there", "model.onnx_data")
    data, other = tmp_path / "there" / "model.onnx_data", tmp_path / "blob"
    data.rename(other)
    if kind == "symbolic":
        data.symlink_to(other)
    else:
        data.hardlink_to(other)
    assert run(capsys, verb, path).code == 0
    assert lowest_cosine(graph, path.with_name(DEFAULTS[verb])) > 0.97


@both
def test_external_data_in_many_files_is_read_as_well(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(pylate_export() / "model.onnx")
    path = tmp_path / "model.onnx"
    onnx.save(
        model, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=64
    )
    assert len(list(tmp_path.iterdir())) > 10
    assert run(capsys, verb, path).code == 0
    assert lowest_cosine(path, path.with_name(DEFAULTS[verb])) > 0.97


@both
def test_what_is_made_in_a_folder_of_ours_is_recorded(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(folder_of_ours(), tmp_path / "model")
    before = json.loads((folder / "conversion.json").read_text(encoding="utf-8"))
    made = folder / "onnx" / "new.onnx"
    assert run(capsys, verb, folder / "onnx" / "model.onnx", "--output", made).code == 0
    after = json.loads((folder / "conversion.json").read_text(encoding="utf-8"))
    entry = after["files"].pop("onnx/new.onnx")
    assert after == {**before, "validated": False}
    assert [step["name"] for step in entry["steps"]] == ["export", "place", verb, "place"]
    assert entry["steps"][2]["settings"]["from"] == "model.onnx"
    assert entry["steps"][3]["bytes"] == made.stat().st_size
    assert str(tmp_path) not in json.dumps(entry), "no path of this machine"
    metadata = {prop.key: prop.value for prop in onnx.load(made).metadata_props}
    assert metadata["family"] == "embedding"


@both
def test_a_file_that_is_replaced_leaves_its_record_to_its_other_names(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(folder_of_ours(), tmp_path / "model")
    record = folder / "conversion.json"
    before = json.loads(record.read_text(encoding="utf-8"))
    assert before["links"] == {"onnx/model_int8.onnx": "onnx/model_quantized.onnx"}
    made = folder / "onnx" / "model_quantized.onnx"
    assert run(capsys, verb, folder, "--output", made, "--force").code == 0
    after = json.loads(record.read_text(encoding="utf-8"))
    assert after["links"] == {}
    assert after["files"]["onnx/model_int8.onnx"] == before["files"]["onnx/model_quantized.onnx"]
    assert after["files"]["onnx/model_quantized.onnx"]["steps"][2]["name"] == verb


def damaged(kind: str, folder: Path) -> Path:
    """Write something that is no usable graph, and return its path."""
    path = folder / "model.onnx"
    good = pylate_export() / "model.onnx"
    if kind in CONTENTS:
        path.write_bytes(CONTENTS[kind])
    elif kind == "cut short":
        path.write_bytes(good.read_bytes()[:5000])
    elif kind == "quantized":
        shutil.copy(folder_of_ours() / "onnx" / "model_quantized.onnx", path)
    elif kind != "missing":
        with_external_data(good, folder)
        DAMAGES[kind](folder)
    return path


def _point_elsewhere(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entry.value.replace("weights.bin", "../weights.bin")
    onnx.save(model, folder / "model.onnx")


CONTENTS = {
    "empty": b"",
    "text": b"not a graph at all",
    "JSON": b'{"model_type": "bert"}',
    "zeros": bytes(1000),
    "LFS pointer": POINTER,
}
DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing external data": lambda folder: (folder / "weights.bin").unlink(),
    "external data cut short": lambda folder: (folder / "weights.bin").write_bytes(b"short"),
    "external data elsewhere": _point_elsewhere,
}
NO_GRAPHS = {
    "missing": "no such file",
    "empty": "not an ONNX file",
    "text": "not an ONNX file",
    "JSON": "not an ONNX file",
    "zeros": "not an ONNX file",
    "cut short": "not an ONNX file, or cut short",
    "LFS pointer": "Git LFS pointer",
}
UNUSABLE = {
    "missing external data": "its external data weights.bin is missing",
    "external data cut short": "its external data weights.bin is cut short",
    "external data elsewhere": "leads out of its folder",
    "quantized": "already quantized",
}


@both
@pytest.mark.parametrize(("kind", "said"), {**NO_GRAPHS, **UNUSABLE}.items())
def test_what_cannot_be_used_ends_with_two_one_line_and_nothing_written(
    verb: str, kind: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damaged(kind, tmp_path)
    before = contents(tmp_path)
    done = run(capsys, verb, path)
    assert str(path) in error_of(done)
    assert said in error_of(done)
    assert done.stderr.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("kind", "said"), NO_GRAPHS.items())
def test_inspect_of_what_is_no_graph_ends_with_two(
    kind: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in error_of(run(capsys, "inspect", damaged(kind, tmp_path)))


@pytest.mark.parametrize("verb", ["inspect", "optimize", "quantize"])
def test_a_folder_without_graphs_is_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds no .onnx file" in error_of(run(capsys, verb, tmp_path))


def test_16_bits_are_not_quantized_again(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "quantize", graph, "--dtype", "Float16").code == 0
    done = run(capsys, "quantize", graph.with_name("model_fp16.onnx"))
    assert "already quantized (it has 16-bit weights)" in error_of(done)


@pytest.mark.parametrize(
    "argv",
    [
        ["inspect"],
        ["optimize"],
        ["optimize", "x", "--level", "3"],
        ["quantize"],
        ["quantize", "x", "--dtype", "int4"],
        ["quantize", "x", "--target", "none"],
    ],
)
def test_wrong_usage_ends_with_two_and_one_line(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(capsys, *argv)
    assert (done.code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
