"""``pylate-onnx-export`` and ``colbert-quantize``: flags, defaults, what is printed, exit codes."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import onnx
import pytest
from colbert_exports import ROOT, SETTINGS, checkpoint, exported, exported_copy, python
from command_line import Ended, contents, run_here
from converted import files_of
from found_graphs import pylate_export
from hub_machine import TOKEN
from publishing import PublishMachine, publish_machine

import colbert_export
from retort import __version__
from retort.errors import ConversionError

DOCUMENTED = {"model.onnx", "model_int8.onnx", "tokenizer.json", *SETTINGS, "README.md"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return an export, to be changed."""
    return exported_copy(tmp_path / "model")


@pytest.fixture
def machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PublishMachine]:
    """Give a machine with a Hub of its own, and a token to write to the account ``org``."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with publish_machine(tmp_path, capsys) as given:
        yield given


def export(capture: pytest.CaptureFixture[str], *argv: str | Path) -> Ended:
    return run_here(capture, colbert_export.export_main, *argv)


def quantize(capture: pytest.CaptureFixture[str], *argv: str | Path) -> Ended:
    return run_here(capture, colbert_export.quantize_main, *argv)


def test_the_commands_are_installed_under_their_old_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    scripts = project["project"]["scripts"]
    assert "colbert_export" in project["tool"]["setuptools"]["py-modules"]
    for name, function in {
        "pylate-onnx-export": colbert_export.export_main,
        "colbert-quantize": colbert_export.quantize_main,
    }.items():
        module, _, attribute = scripts[name].partition(":")
        assert getattr(import_module(module), attribute) is function


def test_the_command_exports_fp32_to_models_and_prints_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = export(capsys, checkpoint())
    assert (done.code, done.stdout) == (0, "models/tiny-colbert\n")
    assert "validating" in done.stderr
    eight_bits = {name for name in files_of(exported()) if re.search("int8|quantized", name)}
    assert files_of(tmp_path / "models" / "tiny-colbert") == files_of(exported()) - eight_bits


@pytest.mark.parametrize("flag", ["-o", "--output-dir"])
def test_the_command_leaves_an_export_alone(
    flag: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy)
    done = export(capsys, "no/such-model", "-q", flag, copy)
    assert (done.code, done.stdout) == (0, f"{copy}\n")
    assert "is left as it is" in done.stderr
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("flag", "quantized"), [("-q", True), ("--quantize", True), ("--no-quantize", False)]
)
def test_the_command_makes_the_missing_8_bit_file_if_asked(
    flag: str, quantized: bool, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "model_int8.onnx").unlink()
    done = export(capsys, "no/such-model", flag, "-o", copy, "--quiet")
    assert done == Ended(0, f"{copy}\n", "")
    assert (copy / "model_int8.onnx").exists() is quantized


@pytest.mark.parametrize("flag", ["-f", "--force"])
def test_the_command_does_not_replace_what_another_tool_made(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(pylate_export(), tmp_path / "model")
    done = export(capsys, checkpoint(), flag, "-o", folder)
    assert (done.code, done.stdout) == (2, "")
    assert "move the folder away, or choose another output folder (-o)" in done.error
    assert contents(folder) == contents(pylate_export())


def test_quantize_and_no_quantize_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = export(capsys, checkpoint(), "-q", "--no-quantize", "-o", tmp_path / "out")
    assert (done.code, done.stdout) == (2, "")
    assert "--no-quantize: not allowed with argument -q/--quantize" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_colbert_quantize_prints_the_file_and_says_how_large_it_is(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "model_int8.onnx"
    path.unlink()
    done = quantize(capsys, copy)
    assert (done.code, done.stdout) == (0, f"{path}\n")
    assert "times smaller" in done.stderr
    assert quantize(capsys, copy, "--quiet") == Ended(0, f"{path}\n", "")


@pytest.mark.parametrize("command", ["pylate-onnx-export", "colbert-quantize"])
def test_version_and_help_name_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main = {"pylate-onnx-export": export, "colbert-quantize": quantize}[command]
    assert main(capsys, "--version") == Ended(0, f"{command} {__version__}\n", "")
    shown = main(capsys, "--help")
    assert shown.code == 0
    assert shown.stdout.startswith(f"usage: {command} ")


@pytest.mark.parametrize(
    ("main", "argv", "code"),
    [
        (export, [], 2),
        (export, ["a", "b"], 2),
        (export, ["a", "--nope"], 2),
        (export, ["no such model", "-o", "out"], 2),
        (quantize, [], 2),
        (quantize, ["nope"], 2),
    ],
)
def test_what_cannot_be_done_ends_with_one_line_and_nothing_written(
    main: Callable[..., Ended],
    argv: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    done = main(capsys, *argv)
    assert (done.code, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert "error: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_failure_of_a_stage_ends_with_one(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copy.parent)
    model = onnx.load(copy / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = "NoSuchOperator"
    (copy / "model.onnx").unlink()
    onnx.save(model, copy / "model.onnx")
    before = contents(copy)
    done = quantize(capsys, copy, "--quiet")
    assert (done.code, done.stdout) == (ConversionError.exit_code, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert contents(copy) == before


def test_the_command_uploads_what_it_exported_and_prints_the_address(
    copy: Path, machine: PublishMachine
) -> None:
    words = ["no/such-model", "-o", str(copy), "--push-to-hub", "org/new", "--private"]
    done = machine.run(colbert_export.export_main, *words)
    assert (done.code, done.stdout) == (0, f"{copy}\n{machine.hub.address}/org/new\n")
    assert machine.files().keys() >= DOCUMENTED
    assert machine.hub.repositories["org/new"].private
    assert machine.pushes() == 1


def test_push_to_hub_returns_the_address_and_takes_what_the_old_tool_made(
    tmp_path: Path, machine: PublishMachine
) -> None:
    folder = shutil.copytree(pylate_export(), tmp_path / "model")
    address = colbert_export.push_to_hub(str(folder), "org/new")
    assert address == f"{machine.hub.address}/org/new"
    assert {"model.onnx", "tokenizer.json", "README.md"} <= machine.files().keys()
    assert not machine.hub.repositories["org/new"].private


def test_an_8_bit_file_made_later_is_uploaded_and_said_to_be_unmeasured(
    copy: Path, machine: PublishMachine
) -> None:
    colbert_export.quantize_model(copy, verbose=False)
    words = ["no/such-model", "-o", str(copy), "--push-to-hub", "org/new", "--quiet"]
    done = machine.run(colbert_export.export_main, *words)
    assert done.code == 0, done.stderr
    assert "was never measured" in done.stderr
    assert machine.files()["model_int8.onnx"] == (copy / "model_int8.onnx").read_bytes()


def test_without_a_token_nothing_is_exported(tmp_path: Path, machine: PublishMachine) -> None:
    script = "import sys, colbert_export; sys.exit(colbert_export.export_main())"
    words = [checkpoint(), "-o", tmp_path / "out", "--push-to-hub", "org/new"]
    done = python(script, *words, environment=machine.environment(HF_TOKEN=""))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "access token" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not machine.hub.log
