"""``retort merge``: a graph in many files becomes one, or one and its data; no weight changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from found_graphs import with_external_data
from graph_commands import error_of, folder_of_ours, run
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from retort.graphs import external_data

WIDTH = 600  # a matrix of it has more than 1 MiB
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file hold more than 100 bytes of everything, as if the graphs were beyond 2 GB."""
    monkeypatch.setattr(external_data, "LARGEST_SINGLE_FILE", 100)


def model() -> onnx.ModelProto:
    """Return a graph with tensors in every place: initializers, constants, both arms of an If."""
    drawn = np.random.default_rng(0)

    def tensor(name: str, *dims: int) -> TensorProto:
        return numpy_helper.from_array(drawn.normal(size=dims).astype(np.float32), name)

    def arm(name: str, value: TensorProto) -> onnx.GraphProto:
        node = helper.make_node("Add", ["product", value.name], [name])
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH])
        return helper.make_graph([node], name, [], [result], [value])

    floats = [float(number) for number in drawn.normal(size=WIDTH)]
    constant = helper.make_node(
        "Constant", [], ["scale"], value=helper.make_tensor("s", TensorProto.FLOAT, [WIDTH], floats)
    )
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"]),
        helper.make_node(
            "If",
            ["chosen"],
            ["added"],
            then_branch=arm("then", tensor("yes", WIDTH)),
            else_branch=arm("else", tensor("no", WIDTH)),
        ),
        constant,
        helper.make_node("Mul", ["added", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH]),
        helper.make_tensor_value_info("chosen", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, WIDTH // 2])]
    shape = numpy_helper.from_array(np.array([-1, 2, WIDTH // 2]), "shape")
    graph = helper.make_graph(
        nodes, "all", inputs, outputs, [tensor("matrix", WIDTH, WIDTH), shape]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, {"author": "somebody"})
    return made


def in_many_files(folder: Path, threshold: int = 64) -> Path:
    """Write the graph with a file for each tensor but shapes, those of attributes and arms too."""
    folder.mkdir(exist_ok=True)
    kept = {"save_as_external_data": True, "all_tensors_to_one_file": False}
    onnx.save(model(), folder / "m.onnx", convert_attribute=True, size_threshold=threshold, **kept)
    return folder / "m.onnx"


def in_one_file(folder: Path) -> Path:
    onnx.save(model(), folder / "m.onnx")
    return folder / "m.onnx"


def in_both(folder: Path) -> Path:
    """Write the matrix to a file, the rest into the graph."""
    return in_many_files(folder, threshold=WIDTH * WIDTH)


KINDS = {"many files": in_many_files, "one file": in_one_file, "both": in_both}
every_kind = pytest.mark.parametrize("kind", KINDS)


def outputs(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    x = np.random.default_rng(1).normal(size=(3, WIDTH)).astype(np.float32)
    return [session.run(None, {"x": x, "chosen": np.array(way)})[0] for way in (True, False)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def whole(path: Path) -> onnx.ModelProto:
    """Return a graph with its tensors as onnx reads them, all as raw bytes."""
    read = onnx.load(path)
    for tensor in external_data.tensors_of(read):
        raw = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("float_data")
        tensor.ClearField("data_location")
        tensor.raw_data = raw
    return read


def external_tensors(path: Path) -> Iterator[ExternalDataInfo]:
    for tensor in external_data.tensors_of(onnx.load(path, load_external_data=False)):
        if uses_external_data(tensor):
            yield ExternalDataInfo(tensor)


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


@pytest.mark.usefixtures("two_files")
def test_an_output_whose_data_would_replace_the_input_s_is_refused(
    tmp_path: Path, capsys: Capture
) -> None:
    path = with_external_data(in_one_file(tmp_path), tmp_path / "there", "n.onnx_data")
    done = run(capsys, "merge", path, "--output", path.with_name("n.onnx"), "--force")
    assert "is what is read; choose another --output" in error_of(done)


@pytest.mark.usefixtures("two_files")
def test_data_of_another_graph_are_replaced_with_force_alone(
    tmp_path: Path, capsys: Capture
) -> None:
    path = in_one_file(tmp_path)
    other = tmp_path / "m_merged.onnx_data"
    other.write_bytes(b"another's")
    before = contents(tmp_path)
    assert f"{other} exists; pass --force" in error_of(run(capsys, "merge", path))
    assert contents(tmp_path) == before
    assert run(capsys, "merge", path, "--force").code == 0
    assert outputs(tmp_path / "m_merged.onnx")


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


DAMAGES = {
    "missing": lambda file: file.unlink(),
    "cut short": lambda file: os.truncate(file, 100),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_external_data_that_is_not_whole_is_refused(
    kind: str, tmp_path: Path, capsys: Capture
) -> None:
    path = in_many_files(tmp_path)
    DAMAGES[kind](tmp_path / "matrix")
    before = contents(tmp_path)
    assert f"{path}: its external data matrix is {kind}" in error_of(run(capsys, "merge", path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("location", "../matrix", "leads out of its folder"),
        ("location", "/etc/hostname", "leads out of its folder"),
        ("offset", "-1", "says wrongly where its tensors are"),
        ("length", "many", "says wrongly where its tensors are"),
    ],
)
def test_a_graph_that_points_elsewhere_is_refused(
    key: str, value: str, said: str, tmp_path: Path, capsys: Capture
) -> None:
    path = in_many_files(tmp_path)
    changed = onnx.load(path, load_external_data=False)
    entry = next(e for e in changed.graph.initializer[0].external_data if e.key == key)
    entry.value = value
    onnx.save(changed, path)
    assert said in error_of(run(capsys, "merge", path))


@pytest.mark.parametrize("content", [b"", b"no graph", bytes(1000)])
def test_what_is_no_graph_is_refused(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert f"{path}: not an ONNX file" in error_of(run(capsys, "merge", path))


def test_every_cut_of_a_file_is_refused(tmp_path: Path, capsys: Capture) -> None:
    path = in_one_file(tmp_path)
    size = path.stat().st_size
    for length in (size // 2, size - 1, 20):
        os.truncate(path, length)
        assert f"{path}: not an ONNX file" in error_of(run(capsys, "merge", path))


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
