"""``retort merge``: a graph in many files becomes one, or one and its data; no weight changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from found_graphs import with_external_data
from graph_commands import error_of, folder_of_ours, run
from merge_graphs import (
    WIDTH,
    Capture,
    contents,
    external_tensors,
    in_both,
    in_many_files,
    in_one_file,
    model,
    outputs,
)
from onnx import numpy_helper

from retort.graphs import external_data


@pytest.fixture
def two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file hold more than 100 bytes of everything, as if the graphs were beyond 2 GB."""
    monkeypatch.setattr(external_data, "LARGEST_SINGLE_FILE", 100)


KINDS = {"many files": in_many_files, "one file": in_one_file, "both": in_both}
every_kind = pytest.mark.parametrize("kind", KINDS)


def whole(path: Path) -> onnx.ModelProto:
    """Return a graph with its tensors as onnx reads them, all as raw bytes."""
    read = onnx.load(path)
    for tensor in external_data.tensors_of(read):
        raw = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("float_data")
        tensor.ClearField("data_location")
        tensor.raw_data = raw
    return read


@every_kind
def test_below_2_gb_all_is_in_one_file(kind: str, tmp_path: Path, capsys: Capture) -> None:
    path = KINDS[kind](tmp_path)
    before = contents(tmp_path)
    done = run(capsys, "merge", path)
    made = tmp_path / "m_merged.onnx"
    assert (done.code, done.stdout) == (0, f"{made}\n")
    assert contents(tmp_path) == {**before, made.name: made.read_bytes()}
    assert list(external_tensors(made)) == []
    assert whole(made) == whole(path), "nothing else has changed"
    np.testing.assert_array_equal(outputs(made), outputs(path))


@every_kind
@pytest.mark.usefixtures("two_files")
def test_beyond_it_the_weights_are_in_one_file_more(
    kind: str, tmp_path: Path, capsys: Capture
) -> None:
    path = KINDS[kind](tmp_path)
    before = contents(tmp_path)
    assert run(capsys, "merge", path, "--output", tmp_path / "new.onnx").code == 0
    made = tmp_path / "new.onnx"
    data = tmp_path / "new.onnx_data"
    after = contents(tmp_path)
    assert after.keys() - before.keys() == {made.name, data.name}
    assert {key: after[key] for key in before} == before
    assert {info.location for info in external_tensors(made)} == {data.name}
    assert whole(made) == whole(path)
    np.testing.assert_array_equal(outputs(made), outputs(path))


@pytest.mark.usefixtures("two_files")
def test_tensors_start_where_every_system_can_map_them(tmp_path: Path, capsys: Capture) -> None:
    assert run(capsys, "merge", in_many_files(tmp_path)).code == 0
    made = tmp_path / "m_merged.onnx"
    found = list(external_tensors(made))
    assert {info.length for info in found} == {4 * WIDTH * WIDTH, 4 * WIDTH}
    assert all(info.offset % (65536 if info.length >= 1 << 20 else 4096) == 0 for info in found)


@pytest.mark.usefixtures("two_files")
def test_tensors_that_share_their_bytes_go_on_sharing_them(tmp_path: Path, capsys: Capture) -> None:
    path = in_many_files(tmp_path)
    shared = onnx.load(path, load_external_data=False)
    arms = next(node for node in shared.graph.node if node.op_type == "If").attribute
    arms[1].g.initializer[0].external_data[0].value = (
        arms[0].g.initializer[0].external_data[0].value
    )
    onnx.save(shared, path)
    assert run(capsys, "merge", path).code == 0
    made = tmp_path / "m_merged.onnx"
    places = [(info.offset, info.length) for info in external_tensors(made)]
    assert len(places) == 4
    assert len(set(places)) == 3
    np.testing.assert_array_equal(outputs(made), outputs(path))


@pytest.mark.parametrize("limit", [100, 2_000_000_000])
def test_with_force_a_graph_may_take_its_own_place(
    limit: int, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_data, "LARGEST_SINGLE_FILE", limit)
    path = with_external_data(in_one_file(tmp_path), tmp_path / "there", "m.onnx_data")
    path = in_many_files(tmp_path / "there")
    before, expected = contents(path.parent), outputs(path)
    refused = run(capsys, "merge", path, "--output", path)
    assert error_of(refused).endswith(f"{path} exists; pass --force to replace it")
    assert contents(path.parent) == before
    done = run(capsys, "merge", path, "--output", path, "--force")
    assert "remove them where no other graph needs them" in done.stderr
    after = contents(path.parent)
    others = {key: value for key, value in before.items() if not key.startswith("m.onnx")}
    assert {key: after[key] for key in others} == others
    assert ("m.onnx_data" in after) is (limit == 100)
    np.testing.assert_array_equal(outputs(path), expected)


def test_shapes_that_are_outside_come_inside_where_runtimes_look_for_them(
    tmp_path: Path, capsys: Capture
) -> None:
    path = in_many_files(tmp_path, threshold=0)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail):
        outputs(path)
    assert run(capsys, "merge", path).code == 0
    np.testing.assert_array_equal(
        outputs(tmp_path / "m_merged.onnx"), outputs(in_one_file(tmp_path))
    )


def test_external_data_that_ends_with_its_file_has_no_length(
    tmp_path: Path, capsys: Capture
) -> None:
    path = in_many_files(tmp_path)
    vague = onnx.load(path, load_external_data=False)
    for tensor in external_data.tensors_of(vague):
        del tensor.external_data[1:]
    onnx.save(vague, path)
    assert run(capsys, "merge", path).code == 0
    np.testing.assert_array_equal(outputs(tmp_path / "m_merged.onnx"), outputs(path))


def test_in_a_folder_of_ours_the_record_tells_the_merge(tmp_path: Path, capsys: Capture) -> None:
    folder = shutil.copytree(folder_of_ours(), tmp_path / "model")
    graph = folder / "onnx" / "model_quantized.onnx"
    assert run(capsys, "merge", graph, "--output", graph, "--force").code == 0
    record = json.loads((folder / "conversion.json").read_text(encoding="utf-8"))
    entry = record["files"]["onnx/model_quantized.onnx"]
    assert entry["precision"] == "QInt8"
    assert [step["name"] for step in entry["steps"]][-2:] == ["place", "merge"]
    assert entry["steps"][-1]["bytes"] == graph.stat().st_size


# Not ru_maxrss: that of a child begins with its parent's.
CHILD = """
import sys
from pathlib import Path
from retort import cli
for graph in sys.argv[1:]:
    assert cli.main(["merge", graph]) == 0
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def test_no_weights_are_loaded(tmp_path: Path) -> None:
    graphs, sizes = [], []
    for name, rows, outside in (("s", 1, False), ("in", 60_000, False), ("out", 60_000, True)):
        made = model()
        matrix = np.ones((rows, WIDTH), np.float32)  # 144 MB of the large ones
        made.graph.initializer.append(numpy_helper.from_array(matrix, "unused"))
        graphs.append(str(tmp_path / f"{name}.onnx"))
        onnx.save(made, graphs[-1], save_as_external_data=outside)
        sizes.append(matrix.nbytes)
    child = [sys.executable, "-c", CHILD, *graphs]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    small, *others = (int(line) * 1024 for line in done.stdout.splitlines() if line.isdecimal())
    assert len(others) == 2
    assert max(others) - small < 40_000_000 < sizes[1]
