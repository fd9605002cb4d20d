"""``retort bench``: the speed of a folder's graphs, any tool's, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from found_graphs import optimum_export
from graph_commands import error_of, folder_of_ours, run

QUICK = ("--rounds", "1", "--shapes", "1x8,2×4")


def test_every_distinct_graph_has_its_times_and_its_speed_against_the_portable_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = run(capsys, "bench", folder_of_ours(), *QUICK, "--json")
    assert (done.code, done.stderr) == (0, "")
    table = json.loads(done.stdout)
    assert (table["shapes"], table["rounds"]) == (["1×8", "2×4"], 1)
    names = ["onnx/model.onnx", "onnx/model_opt1.onnx", "onnx/model_quantized.onnx"]
    assert [row["file"] for row in table["files"]] == names
    portable = table["files"][0]
    assert portable["speed"] == [1.0, 1.0]
    for row in table["files"]:
        pairs = zip(portable["milliseconds"], row["milliseconds"], row["speed"], strict=True)
        for slow, fast, speed in pairs:
            assert fast > 0
            assert speed == pytest.approx(slow / fast, abs=0.02, rel=0.02)


def test_the_table_names_the_file_that_speed_is_against(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copy(optimum_export() / "model.onnx", tmp_path / "model.onnx")
    (tmp_path / "a.onnx").hardlink_to(tmp_path / "model.onnx")
    shutil.copy(folder_of_ours() / "onnx" / "model_quantized.onnx", tmp_path)
    done = run(capsys, "bench", tmp_path, *QUICK)
    title, header, first, second = done.stdout.splitlines()
    assert title.endswith("speed against a.onnx")
    assert header.split() == ["file", "precision", "MB", "1×8", "ms", "speed", "2×4", "ms", "speed"]
    assert first.split()[:2] == ["a.onnx", "fp32"]
    assert first.split()[-1] == "1.00×"
    assert second.split()[:3] == ["model_quantized.onnx", "8", "bits"]


def test_a_shape_that_a_graph_does_not_take_has_a_dash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = onnx.load(optimum_export() / "model.onnx")
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    done = run(capsys, "bench", tmp_path, *QUICK)
    assert done.stdout.splitlines()[-1].split()[-3:] == ["1.00×", "–", "–"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--shapes", "1x8,8"), "--shapes 1x8,8"),
        (("--shapes", "0x8"), "--shapes 0x8"),
        (("--rounds", "0"), "--rounds 0"),
        ((), "holds no .onnx file"),
    ],
)
def test_what_cannot_be_timed_is_refused(
    options: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in error_of(run(capsys, "bench", tmp_path, *options))


def test_it_imports_no_torch() -> None:
    script = (
        "import sys; from retort import cli; code = cli.main(sys.argv[1:]); "
        "sys.exit(code or bool({'torch', 'transformers', 'matplotlib'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", script, "bench", str(folder_of_ours()), *QUICK]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=False).returncode == 0
