"""The Hub when it fails during an upload: what is tried again, and what is said."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hub_machine import TOKEN
from hub_server import Answer, Fault, Request, refusal
from huggingface_hub.errors import HfHubHTTPError, XetAuthorizationError
from publishing import GRAPH, PublishMachine, contents, finished_folder, publish_machine

from retort.errors import ConversionError, InputError, RetortError
from retort.output.upload_errors import Destination, explain

AT_ONCE = {"Retry-After": "0"}
# A runner may have had Ctrl-C ignored, which its children inherit.
WITH_CTRL_C = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from retort.cli import main; sys.exit(main())"
)


def answered(status: int) -> HfHubHTTPError:
    """Return the library's error for an answer with a status."""
    response = requests.Response()
    response.status_code = status
    return HfHubHTTPError("x", response=response, server_message="no space\x1b\nleft")


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[PublishMachine]:
    with publish_machine(tmp_path, capsys) as given:
        yield given


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = finished_folder(tmp_path / "mine")
    (folder / "model.onnx").unlink()
    return folder


@pytest.mark.parametrize(
    "steps",
    [
        ["repos/create", "validate-yaml", "preupload", "objects/batch"],
        ["repos/create", "verify", "commit/"],
    ],
)
def test_a_hub_that_fails_once_at_each_step_is_asked_again(
    steps: list[str], machine: PublishMachine, folder: Path
) -> None:
    machine.hub.faults = [Fault(step, 1, "POST", 500, AT_ONCE) for step in steps]
    machine.hub.faults += [Fault(steps[0], 1, "POST", 429, AT_ONCE)]
    assert machine.push(folder).code == 0
    assert [fault.times for fault in machine.hub.faults] == [0] * len(machine.hub.faults)
    assert machine.pushes() == 1


def test_what_has_arrived_is_not_sent_again(machine: PublishMachine, folder: Path) -> None:
    (folder / "onnx" / "other.onnx").write_bytes(b"another graph")
    machine.hub.faults = [Fault("commit/", 1, "POST", 503, AT_ONCE)]
    assert machine.push(folder).code == 0
    assert sorted(len(seen.body) for seen in machine.hub.requested("/store/", "PUT")) == sorted(
        [len(GRAPH), len(b"another graph")]
    )


def test_an_upload_that_is_cut_half_way_is_sent_again(
    machine: PublishMachine, folder: Path
) -> None:
    (folder / "tokenizer.json").write_bytes(bytes(10_000_001))
    machine.hub.faults = [Fault("/store/", 1, "PUT", read=5_000_000)]
    done = machine.push(folder)
    assert done.code == 0
    assert machine.hub.faults[0].times == 0
    assert machine.files()["tokenizer.json"] == bytes(10_000_001)


def test_an_address_that_ran_out_is_asked_for_again(machine: PublishMachine, folder: Path) -> None:
    machine.uploads.store = machine.hub.address.replace("127.0.0.1", "localhost")
    machine.hub.faults = [Fault("/store/", 1, "PUT", 403, AT_ONCE)]
    done = machine.push(folder)
    assert done.code == 0
    assert len(machine.hub.requested("/objects/batch", "POST")) == 2


@pytest.mark.parametrize("cut_after", [0, 10])
def test_a_lost_answer_to_the_commit_makes_no_second_commit(
    cut_after: int, machine: PublishMachine, folder: Path
) -> None:
    machine.hub.faults = [Fault("commit/", 1, "POST", cut_after=cut_after)]
    done = machine.push(folder)
    assert (done.code, machine.pushes()) == (0, 1)
    assert "org/new: connection lost; trying again in 1 s" in done.stderr
    assert len(machine.sent()) == 1


def test_a_commit_of_somebody_else_in_between_is_kept(
    machine: PublishMachine, folder: Path
) -> None:
    commit, index = next(
        (route, n) for n, route in enumerate(machine.hub.routes) if "commit" in route.path
    )

    def be_overtaken_once(request: Request, repo_id: str) -> Answer:
        if machine.pushes(repo_id) == 0:
            machine.hub.repositories[repo_id].commit({**machine.files(repo_id), "theirs": b"x"})
        return commit.answer(request, repo_id)

    machine.hub.routes[index] = commit._replace(answer=be_overtaken_once)
    done = machine.push(folder)
    assert (done.code, machine.pushes()) == (0, 2)
    assert "HTTP 412; trying again" in done.stderr
    assert machine.files()["theirs"] == b"x"
    assert machine.files()["onnx/model.onnx"] == GRAPH


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_that_never_ends_is_told(
    status: int, machine: PublishMachine, folder: Path
) -> None:
    machine.hub.faults = [Fault("commit/", 99, "POST", status, AT_ONCE)]
    ended = machine.push(folder)
    assert ended.code == 1
    assert "somebody else keeps changing the repository" in ended.error
    assert ended.stderr.count("trying again in 0 s") == 3


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (401, 2, "refuses the access token"),
        (403, 2, "the token may not write there"),
        (429, 1, "too many requests"),
        (500, 1, "HTTP 500 (Fault); it failed several times"),
    ],
)
def test_a_commit_that_is_refused_for_good_is_told_by_its_status(
    status: int, code: int, advice: str, machine: PublishMachine, folder: Path
) -> None:
    machine.hub.faults = [Fault("commit/", 99, "POST", status, AT_ONCE)]
    ended = machine.push(folder)
    assert (ended.code, ended.stdout) == (code, "")
    assert advice in ended.error


def test_after_a_failure_the_folder_is_as_it_was_and_a_command_goes_on_from_there(
    machine: PublishMachine, folder: Path
) -> None:
    before = contents(folder)
    machine.hub.faults = [Fault("commit/", 4, "POST", 500, AT_ONCE)]
    ended = machine.push(folder, "--private")
    assert ended.error.endswith(f"go on with: retort push {folder} org/new --private")
    assert contents(folder) == before
    assert machine.push(folder, "--private").code == 0
    assert len(machine.sent()) == 1


def test_ctrl_c_says_how_to_go_on(machine: PublishMachine, folder: Path) -> None:
    commit = next(route for route in machine.hub.routes if "commit" in route.path)
    command = [sys.executable, "-c", WITH_CTRL_C, "push", str(folder), "org/new", "--token", TOKEN]
    with subprocess.Popen(
        command, env=machine.environment(), stderr=subprocess.PIPE, text=True
    ) as process:

        def interrupt(request: Request, repo_id: str) -> Answer:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            return commit.answer(request, repo_id)

        machine.hub.routes.insert(0, commit._replace(answer=interrupt))
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    told = f"{folder} is complete, go on with: retort push {folder} org/new"
    assert said.splitlines()[-1] == f"error: interrupted; {told}"


def test_a_hub_that_asks_to_wait_is_not_waited_for_without_end(
    machine: PublishMachine, folder: Path
) -> None:
    machine.hub.faults = [Fault("repos/create", 1, "POST", 429, {"Retry-After": "1"})]
    done = machine.push(folder)
    assert (done.code, "HTTP 429; trying again in 1 s" in done.stderr) == (0, True)


def test_without_network_the_endpoint_is_named(machine: PublishMachine, folder: Path) -> None:
    ended = machine.push(folder, HF_ENDPOINT="http://user:password@127.0.0.1:9")
    assert ended.code == 1
    assert "the upload to http://127.0.0.1:9 broke off several times" in ended.error
    assert "password" not in ended.stderr
    assert re.findall(r"trying again in (\d) s", ended.stderr) == ["1", "2", "4"]


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (answered(402), InputError, "HTTP 402 (no space left); correct what it complains of"),
        (answered(404), InputError, "sees no such account or repository"),
        (answered(418), InputError, "HTTP 418 (no space left); correct what it complains of"),
        (requests.JSONDecodeError("x", "", 0), ConversionError, "does not answer as the Hub does"),
        (KeyError("url"), ConversionError, "does not answer as the Hub does"),
        (PermissionError(13, "denied", "a.onnx"), InputError, "a.onnx: cannot be read (denied)"),
        (RuntimeError("hf_xet"), ConversionError, "broke off several times (RuntimeError: hf_xet)"),
        (XetAuthorizationError("no"), InputError, "the token may not write there"),
    ],
)
def test_every_failure_has_its_line(error: Exception, kind: type[RetortError], told: str) -> None:
    explained = explain(error, Destination("org/new"))
    assert type(explained) is kind
    assert told in str(explained)
    assert str(explained).isprintable()


def test_a_page_in_place_of_an_error_is_no_reason_to_give_up(
    machine: PublishMachine, folder: Path
) -> None:
    validate = next(route for route in machine.hub.routes if "validate" in route.path)
    index = machine.hub.routes.index(validate)

    def fail_once(request: Request) -> Answer:
        machine.hub.routes[index] = validate
        return refusal(502, "")._replace(body=b"<html>Bad gateway</html>", headers=AT_ONCE)

    machine.hub.routes[index] = validate._replace(answer=fail_once)
    assert machine.push(folder).code == 0


def test_progress_is_shown_on_a_terminal_only(machine: PublishMachine, folder: Path) -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    command = [sys.executable, "-m", "retort.cli", "push", str(folder), "org/new"]
    subprocess.run(
        [*command, "--token", TOKEN],
        env=machine.environment(),
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
        timeout=120,
    )
    os.write(theirs, b"end")
    seen = b""
    while not seen.endswith(b"end"):
        seen += os.read(ours, 1000)
    os.close(theirs)
    os.close(ours)
    assert b"model.onnx: 100%|" in seen
    machine.uploads.objects.clear()
    assert "%|" not in machine.push(folder, repo_id="org/piped").stderr
    assert len(machine.sent()) == 2
