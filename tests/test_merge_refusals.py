"""What ``retort merge`` refuses: damaged graphs, and outputs that would replace something."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from found_graphs import with_external_data
from graph_commands import error_of, run
from merge_graphs import Capture, contents, in_many_files, in_one_file, outputs

from retort.graphs import external_data


@pytest.fixture
def two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file hold more than 100 bytes of everything, as if the graphs were beyond 2 GB."""
    monkeypatch.setattr(external_data, "LARGEST_SINGLE_FILE", 100)


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
