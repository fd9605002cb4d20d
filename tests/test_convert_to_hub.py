"""A conversion that ends on the Hub."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import convert_here
from hub_machine import TOKEN
from hub_server import Fault
from publishing import PublishMachine, contents, publish_machine
from tiny_checkpoints import build_sentence_transformer

import convert
from retort import cli
from retort.card.model_card import for_repository

PUSH = ("--push_to_hub", "org/new", "--token", TOKEN)
UNMEASURED = ("--skip_validation", "--push_unvalidated")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "tiny"
    build_sentence_transformer(folder, "bert")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nTiny.\n", encoding="utf-8")
    return folder


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[PublishMachine]:
    with publish_machine(tmp_path, capsys) as given:
        yield given


def test_a_conversion_is_measured_and_then_uploaded_byte_for_byte(
    checkpoint: Path, machine: PublishMachine
) -> None:
    folder = machine.home / "tiny"
    options = ("--model_id", str(checkpoint), "--optimize", "0", "--quantize", "QInt8")
    done = machine.run(convert.main, *options, "--output_dir", str(folder), *PUSH)
    assert done.code == 0, done.stderr
    assert done.stdout == f"{folder}\n{machine.hub.address}/org/new\n"

    here = contents(folder)
    card = here["README.md"].decode()
    expected = {**here, "README.md": for_repository(card, "org/new").encode()}
    there = machine.files()
    assert there.pop(".gitattributes")
    assert there == expected
    assert machine.pushes() == 1

    rows = json.loads(here["conversion.json"])["validation"]["files"]
    assert [row["file"] for row in rows] == ["onnx/model.onnx", "onnx/model_quantized.onnx"]
    for row in rows:
        figures = f"{row['fidelity_mean']:.4f} | {row['fidelity_min']:.4f}"
        assert re.search(rf"\| `{row['file']}` \| {re.escape(figures)} \|", card)


def test_an_upload_that_fails_leaves_the_folder_and_tells_the_command_that_goes_on(
    checkpoint: Path, machine: PublishMachine
) -> None:
    machine.hub.faults = [Fault("commit/", 4, "POST", 500, {"Retry-After": "0"})]
    folder = str(machine.home / "tiny")
    options = ("--model_id", str(checkpoint), "--optimize", "0", "--output_dir", folder, "--json")
    ended = machine.run(convert.main, *options, *UNMEASURED, *PUSH, "--private")
    assert (ended.code, ended.stdout) == (1, "")
    command = shlex.split(ended.error.rpartition("go on with: ")[2])
    assert command == ["retort", "push", folder, "org/new", "--private", "--push_unvalidated"]

    done = machine.run(cli.main, *command[1:], "--token", TOKEN)
    assert (done.code, done.stdout) == (0, f"{machine.hub.address}/org/new\n")
    assert machine.pushes() == 1

    again = machine.run(convert.main, *options, *UNMEASURED, *PUSH, "--force")
    assert again.code == 0
    told = json.loads(again.stdout)
    assert (told["target"], told["url"]) == (folder, f"{machine.hub.address}/org/new")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((*PUSH, "--skip_validation"), "leaves the files unmeasured"),
        (("--push_to_hub", "new", "--token", TOKEN), "give it as account/name"),
        (("--push_to_hub", "org/new", "--token", f"{TOKEN} "), "has characters"),
        (("--private",), "says how --push_to_hub works"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry_run",)])
def test_what_could_not_be_uploaded_is_refused_before_any_work(
    options: tuple[str, ...],
    told: str,
    dry: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("--model_id", tmp_path / "nothing", "--output_parent_dir", tmp_path, *options, *dry)
    ended = convert_here(capsys, *words)
    assert (ended.code, ended.stdout) == (2, "")
    assert told in ended.error
    assert not list(tmp_path.iterdir())
