"""One graph beside others: it appears whole or not at all, and never through another's name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import permissions_count

from retort.errors import ConversionError, InputError, RetortError
from retort.output.output_file import output_file

CHILD = """
import sys
from collections.abc import Callable
from pathlib import Path
from retort.output.output_file import output_file
with output_file(Path(sys.argv[1]), force=True) as new:
    new.write_text("half of the new")
    print("inside", flush=True)
    sys.stdin.readline()
    new.write_text("new")
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of a graph in a folder that holds nothing else."""
    (tmp_path / "model").mkdir()
    return tmp_path / "model" / "model_int8.onnx"


def contents(target: Path) -> dict[str, str]:
    """Return the text of every file beside the target; there are no folders."""
    return {path.name: path.read_text() for path in target.parent.iterdir()}


def write(target: Path, body: Callable[[Path], object], *, force: bool = False) -> None:
    """Let a body write the target."""
    with output_file(target, force=force) as new:
        body(new)


def inside(target: Path) -> subprocess.Popen[str]:
    """Start a process that writes the target, and return it when it is in the middle."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", CHILD, str(target)]
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "inside\n"
    return child


def test_the_graph_and_its_data_appear_at_the_end_and_nothing_else(target: Path) -> None:
    with output_file(target, force=False) as new:
        (new.parent / "temporary").write_text("large")
        new.write_text("graph")
        new.with_name(f"{new.name}_data").write_text("tensors")
        assert not target.exists()
    assert contents(target) == {"model_int8.onnx": "graph", "model_int8.onnx_data": "tensors"}


def test_another_name_of_the_bytes_that_are_replaced_keeps_them(target: Path) -> None:
    target.write_text("old")
    other, link = target.with_name("other.onnx"), target.with_name("link.onnx")
    os.link(target, other)
    link.symlink_to(other)
    for place in (target, link):
        write(place, lambda new: new.write_text("new"), force=True)
    assert contents(target) == {
        "model_int8.onnx": "new",
        "link.onnx": "new",
        "other.onnx": "old",
    }


def test_data_that_the_new_graph_does_not_have_goes_with_the_old_one(target: Path) -> None:
    target.write_text("old")
    target.with_name(f"{target.name}_data").write_text("old tensors")
    target.with_name("other.onnx_data").write_text("of another graph")
    write(target, lambda new: new.write_text("new"), force=True)
    assert contents(target) == {"model_int8.onnx": "new", "other.onnx_data": "of another graph"}


def test_a_record_is_replaced_with_the_graph_and_only_then(target: Path) -> None:
    record = target.with_name("conversion.json")
    record.write_text("old")
    with output_file(target, force=False, beside=[record]) as new:
        new.write_text("graph")
        (new.parent / "conversion.json").write_text("new")
        assert record.read_text() == "old"
    assert contents(target) == {"model_int8.onnx": "graph", "conversion.json": "new"}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_after_an_error_all_is_as_it_was(target: Path, error: BaseException) -> None:
    target.write_text("old")

    def fail(new: Path) -> None:
        new.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write(target, fail, force=True)
    assert contents(target) == {"model_int8.onnx": "old"}


def test_a_killed_process_leaves_the_old_graph_and_the_next_run_its_own(target: Path) -> None:
    target.write_text("old")
    child = inside(target)
    child.kill()
    child.communicate()
    assert target.read_text() == "old"
    assert len(list(target.parent.iterdir())) > 1, "the test needs something left behind"
    write(target, lambda new: new.write_text("new"), force=True)
    assert contents(target) == {"model_int8.onnx": "new"}


def test_a_stopped_process_cleans_up(target: Path) -> None:
    child = inside(target)
    child.send_signal(signal.SIGTERM)
    child.communicate()
    assert child.returncode == 143
    assert contents(target) == {}


def test_of_two_writers_the_second_fails_at_once(target: Path) -> None:
    child = inside(target)
    with (
        pytest.raises(InputError, match=f"being written by process {child.pid} "),
        output_file(target, force=True),
    ):
        pytest.fail("both were let in")
    child.communicate("go on\n")
    assert contents(target) == {"model_int8.onnx": "new"}


def refusal(target: Path, kind: type[RetortError] = InputError, *, force: bool = False) -> str:
    """Return why a target is refused, in one line, before the body runs."""
    with pytest.raises(kind) as caught, output_file(target, force=force):
        pytest.fail("the body ran")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_what_exists_is_replaced_by_force_only(target: Path) -> None:
    target.write_text("old")
    assert "pass --force" in refusal(target)
    assert contents(target) == {"model_int8.onnx": "old"}


def test_a_folder_is_no_target_and_a_missing_one_no_place(target: Path) -> None:
    assert "is a folder" in refusal(target.parent, force=True)
    assert "is not a folder; make it" in refusal(target.parent / "nope" / "a.onnx")


def test_one_that_appears_meanwhile_is_not_replaced(target: Path) -> None:
    def two(new: Path) -> None:
        new.write_text("new")
        target.write_text("another run's")

    with pytest.raises(InputError, match="pass --force"):
        write(target, two)
    assert contents(target) == {"model_int8.onnx": "another run's"}


def test_a_folder_that_may_not_be_written_is_told_in_one_line(target: Path) -> None:
    target.parent.chmod(0o555)
    with permissions_count():
        message = refusal(target, ConversionError)
    assert "Permission denied" in message
    assert "check the space and the permissions" in message


def test_a_full_disk_in_the_body_is_told_and_leaves_nothing(target: Path) -> None:
    def fill(new: Path) -> None:
        new.symlink_to("/dev/full")
        new.write_text("graph")

    with pytest.raises(ConversionError, match="No space left on device"):
        write(target, fill)
    assert contents(target) == {}


def test_an_error_of_reading_is_not_called_one_of_writing(target: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), output_file(target, force=False):
        (tmp_path / "nope").read_text()
