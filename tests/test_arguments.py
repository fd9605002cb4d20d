"""The options of the command line: what is understood, what is refused, and how fast."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from command_line import CONVERT, STAGES, contents, convert_here, run
from tiny_checkpoints import build_encoder

from retort import __version__
from retort.argument_parser import parse_arguments
from retort.arguments import ConversionArguments
from retort.errors import InputError

HELP_CPU_SECONDS = 1.5


def parsed(*argv: str) -> ConversionArguments:
    return parse_arguments(["--model_id", "model", *argv])


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line with which a command line is refused."""
    with pytest.raises(SystemExit) as caught:
        parse_arguments([*argv])
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("convert.py: error: ")
    assert said.err.endswith("(see convert.py --help)\n")
    return said.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--frobnicate"], ["--frobnicate"]),
        (["--quant", "QInt8"], ["--quant"]),
        (["stray"], ["stray"]),
        (["--optimize", "5"], ["--optimize", "'5'", "0, 1, 2, 99"]),
        (["--opset", "new"], ["--opset", "'new'"]),
        (["--pooling", "median"], ["--pooling", "'median'", "'cls'", "'mean'"]),
        (["--target", "z80"], ["--target", "'z80'", "'avx2'"]),
        (["--file_naming", "mine"], ["--file_naming", "'mine'", "'opt_level'"]),
        (["--quantize", "int4"], ["--quantize int4", "QInt8, QUInt8, Float16"]),
        (["--quantize", "QInt8,int4"], ["--quantize int4", "QInt8, QUInt8, Float16"]),
        (["--quantize"], ["--quantize", "expected at least one argument"]),
        (["--output_parent_dir"], ["--output_parent_dir", "expected one argument"]),
    ],
    ids=" ".join,
)
def test_an_unknown_option_or_value_is_refused_in_one_line_that_names_it(
    argv: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "--model_id", "model", *argv)
    assert all(words in line for words in said)


def test_the_model_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--model_id" in refused(capsys, "--optimize", "1")


def test_a_usage_error_ends_the_process_with_code_2_and_one_line() -> None:
    ended = run("--model_id", "model", "--frobnicate")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr == (
        "convert.py: error: unknown argument: --frobnicate (see convert.py --help)\n"
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["--quantize", "QInt8", "Float16"],
        ["--quantize", "QInt8,Float16"],
        ["--quantize", "QInt8", "--quantize", "Float16"],
        ["--quantize", "qint8, FLOAT16,", "--quantize", "QInt8"],
    ],
    ids=" ".join,
)
def test_precisions_come_apart_repeated_or_with_commas_and_count_once(argv: list[str]) -> None:
    assert parsed(*argv).quantize == ["QInt8", "Float16"]


def test_without_quantize_there_is_no_precision() -> None:
    assert parsed().quantize == []


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], None),
        (["--reduce_range"], True),
        (["--no_reduce_range"], False),
        (["--no-reduce-range"], False),
    ],
    ids=lambda value: " ".join(value) or "unset" if isinstance(value, list) else "",
)
def test_reduce_range_is_on_off_or_left_to_the_target(
    argv: list[str], expected: bool | None
) -> None:
    assert parsed(*argv).reduce_range is expected


def test_per_channel_is_on_unless_switched_off() -> None:
    assert parsed().per_channel
    assert not parsed("--no_per_channel").per_channel


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"quantize": ["QInt8"], "recipe": "plain"}, True),
        ({"quantize": ["QInt8", "Float16"]}, True),
        ({"quantize": ["QInt8"]}, False),
        ({"quantize": ["QUInt8Static"], "recipe": "plain"}, False),
        ({"quantize": ["Float16"], "skip_validation": False}, False),
        ({"quantize": ["Float16"], "min_fidelity": 0.0}, False),
    ],
)
def test_a_fidelity_that_nothing_would_measure_is_refused(
    settings: dict[str, Any], refused: bool
) -> None:
    given = {"model_id": "m", "skip_validation": True, "min_fidelity": 0.9, **settings}
    if refused:
        with pytest.raises(InputError, match="with --skip_validation, nothing measures"):
            ConversionArguments(**given)
    else:
        assert ConversionArguments(**given).quantize == settings["quantize"]


def test_dashes_stand_for_underscores() -> None:
    assert parsed("--output-parent-dir", "there").output_parent_dir == "there"


def test_the_version_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"retort {__version__}\n", "")


def test_help_names_every_option_and_imports_no_torch_in_little_time() -> None:
    def children_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = children_seconds()
    command = [sys.executable, "-X", "importtime", str(CONVERT), "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    seconds = children_seconds() - before
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "retort.arguments" in imported
    assert not {"torch", "transformers", "optimum", "onnx", "onnxruntime"} & imported
    assert seconds < HELP_CPU_SECONDS
    assert all(f"--{option.name}" in ended.stdout for option in fields(ConversionArguments))
    assert "Exit codes: 0 done, 1 a conversion failed, 2 wrong usage" in ended.stdout


def test_stdout_carries_the_folder_alone_and_stderr_tells_the_stages(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("--model_id", build_encoder(tmp_path / "model", "bert"), "--skip_validation")
    out = ("--output_parent_dir", tmp_path / "out", "--quantize", "QInt8")
    ended = convert_here(capfd, *words, *out)
    assert (ended.code, ended.stdout) == (0, f"{tmp_path / 'out' / 'model'}\n")
    told = [line.split()[0] for line in ended.stderr.splitlines() if line.startswith(STAGES)]
    assert told == list(STAGES[:3])


def test_quiet_says_nothing_but_the_folder(tmp_path: Path) -> None:
    words = ("--model_id", build_encoder(tmp_path / "model", "bert"), "--skip_validation")
    ended = run(*words, "--output_parent_dir", tmp_path / "out", "--quiet")
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"{tmp_path / 'out' / 'model'}\n", "")


def test_json_gives_one_line_of_json_on_stdout(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("--model_id", build_encoder(tmp_path / "model", "bert"), "--skip_validation")
    ended = convert_here(capfd, *words, "--output_parent_dir", tmp_path / "out", "--json")
    assert (ended.code, ended.stdout.count("\n")) == (0, 1)
    told = json.loads(ended.stdout)
    assert told["target"] == str(tmp_path / "out" / "model")
    assert all((tmp_path / "out" / "model" / name).is_file() for name in told["files"].values())
    assert told["validation"] is None


def test_a_failure_leaves_stdout_empty_even_with_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = convert_here(capfd, "--model_id", tmp_path, "--json")
    assert (ended.code, ended.stdout) == (2, "")
    assert "an empty folder" in ended.error


def test_a_dry_run_prints_the_plan_without_weights_and_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = build_encoder(tmp_path / "model", "bert")
    (source / "model.safetensors").unlink()
    before = contents(tmp_path)
    words = ("--model_id", source, "--output_parent_dir", tmp_path / "out", "--dry_run")
    ended = convert_here(capfd, *words, "--quantize", "QInt8,Float16")
    assert (ended.code, ended.stdout.count("\n"), ended.stderr) == (0, 1, "")
    plan = json.loads(ended.stdout)
    assert plan["family"] == "embedding"
    assert plan["target"] == str(tmp_path / "out" / "model")
    assert plan["files"]["QInt8"] == "onnx/model_quantized.onnx"
    assert plan["files"]["Float16"] == "onnx/model_fp16.onnx"
    assert contents(tmp_path) == before


def test_verbose_shows_where_an_error_comes_from(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = convert_here(capfd, "--model_id", tmp_path, "--verbose")
    first, *_, last = ended.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert "retort/source/checkpoint_checks.py" in ended.stderr
    assert last.startswith("error: ")


@contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("w") as stream:
        yield stream.fileno()


@contextmanager
def closed_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("stdout", [full_disk, closed_pipe])
def test_a_stdout_that_takes_nothing_is_told_in_one_line(stdout: Any, tmp_path: Path) -> None:
    source = build_encoder(tmp_path / "model", "bert")
    with stdout() as number:
        ended = run("--model_id", source, "--dry_run", stdout=number)
    assert ended.code == 1
    assert "stdout" in ended.error
    assert "Retort?" not in ended.error
