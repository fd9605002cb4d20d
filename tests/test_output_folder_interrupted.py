"""Output folders and the processes that write them: stopped, killed, or two at a time (Linux)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from output_folder_child import FILES, write_version

from retort.errors import ConversionError, InputError
from retort.output.output_folder import output_folder

CHILD = Path(__file__).with_name("output_folder_child.py")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of an output folder whose parent holds nothing else."""
    return tmp_path / "out" / "model"


@pytest.fixture
def start() -> Iterator[Start]:
    """Yield a function that starts a child; those that still run at the end are killed."""
    children: list[subprocess.Popen[str]] = []

    def start_child(target: Path, *options: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, str(CHILD), str(target), *options]
        children.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return children[-1]

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


def wait_until_inside(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "inside\n"


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = child.communicate("finish\n", timeout=20)
    return child.returncode, errors


def write_old(target: Path) -> None:
    target.mkdir(parents=True)
    write_version(target, "old")


def whole_version(target: Path) -> str:
    """Return the one version that all files of the target have, even while it is replaced."""
    while True:
        place = os.open(target, os.O_RDONLY)
        try:
            texts = set()
            for name in FILES:
                with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=place)) as file:
                    texts.add(file.read())
        except FileNotFoundError:
            # Only a folder that was replaced since it was opened may lose its files.
            assert not os.path.samestat(os.fstat(place), target.stat())
            continue
        finally:
            os.close(place)
        (version,) = texts
        return version


def names_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_killed_run_leaves_the_old_folder_and_the_next_run_cleans_up(
    target: Path, start: Start
) -> None:
    write_old(target)
    child = start(target, "--force")
    wait_until_inside(child)
    child.kill()
    child.wait()
    assert whole_version(target) == "old"
    assert names_beside(target) == ["model", f"model.partial-{child.pid}", "model.partial-lock"]

    with output_folder(target, force=True) as output:
        write_version(output.folder, "next")
    assert whole_version(target) == "next"
    assert names_beside(target) == ["model"]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_run_told_to_stop_removes_what_it_made(
    target: Path, start: Start, number: signal.Signals, status: int
) -> None:
    child = start(target)
    wait_until_inside(child)
    child.send_signal(number)
    assert child.wait(timeout=20) == status
    assert not target.parent.exists()


def test_a_run_told_to_stop_leaves_the_old_folder(target: Path, start: Start) -> None:
    write_old(target)
    child = start(target, "--force")
    wait_until_inside(child)
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=20)
    assert whole_version(target) == "old"
    assert names_beside(target) == ["model"]


def test_a_second_run_for_the_same_target_fails_at_once_and_names_the_first(
    target: Path, start: Start
) -> None:
    first = start(target)
    wait_until_inside(first)
    code, message = finish(start(target, "--force"))
    assert code == 2
    assert f"{target} is being written by process {first.pid} on " in message

    assert finish(first)[0] == 0
    assert whole_version(target) == "new.0"
    assert names_beside(target) == ["model"]


def test_of_runs_that_start_together_one_wins(target: Path, start: Start) -> None:
    children = [start(target, "--version", str(index)) for index in range(4)]
    # Without a line on stdin the winner stays inside until all others have failed.
    deadline = time.monotonic() + 20
    while sum(child.poll() == 2 for child in children) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (winner,) = [child for child in children if child.poll() is None]
    assert finish(winner)[0] == 0
    assert whole_version(target) == f"{children.index(winner)}.0"
    assert names_beside(target) == ["model"]


def test_a_lock_is_held_between_threads_too(target: Path) -> None:
    errors: list[InputError] = []

    def second_run() -> None:
        try:
            with output_folder(target, force=True):
                pass
        except InputError as error:
            errors.append(error)

    with output_folder(target, force=False):
        thread = threading.Thread(target=second_run)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} " in str(errors[0])


def test_a_folder_can_be_written_outside_the_main_thread(target: Path) -> None:
    def run() -> None:
        with output_folder(target, force=False) as output:
            write_version(output.folder, "thread")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert whole_version(target) == "thread"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_at_any_instant_leaves_the_old_or_the_new_folder_whole(
    target: Path, start: Start, exchange: bool
) -> None:
    write_old(target)
    options = ["--force", "--forever"] + ([] if exchange else ["--without_exchange"])
    chance = random.Random(1)
    seen: set[str] = set()
    deadline = time.monotonic() + 3
    kills = 0
    while kills < 5 or time.monotonic() < deadline:
        child = start(target, *options, "--version", str(kills))
        wait_until_inside(child)
        kill_at = time.monotonic() + chance.uniform(0, 0.06)
        while time.monotonic() < kill_at:
            if exchange:  # a reader never misses the folder, nor finds a mixture
                seen.add(whole_version(target))
        child.kill()
        child.wait()
        kills += 1
        # Between the two steps of a system that cannot exchange, the old folder is set aside.
        aside = target.with_name("model.partial-old")
        seen.add(whole_version(target if exchange or target.exists() else aside))
    assert len(seen) > 1  # some runs got as far as replacing the folder

    before = whole_version(target if target.exists() else aside)
    with pytest.raises(InputError, match="pass --force"), output_folder(target, force=False):
        pass
    assert whole_version(target) == before
    assert names_beside(target) == ["model"]


def test_without_an_exchange_the_old_folder_is_replaced_in_two_steps(
    target: Path, start: Start
) -> None:
    write_old(target)
    code, log = finish(start(target, "--force", "--without_exchange"))
    assert code == 0
    assert "in two steps only" in log
    assert whole_version(target) == "new.0"
    assert names_beside(target) == ["model"]


def test_a_disk_that_is_full_only_when_files_are_synced_leaves_the_old_folder(
    target: Path, start: Start
) -> None:
    write_old(target)
    code, message = finish(start(target, "--force", "--full_at_fsync"))
    assert code == 1
    assert f"could not write {target}: No space left on device; free space there" in message
    assert whole_version(target) == "old"
    assert names_beside(target) == ["model"]


def test_an_old_folder_set_aside_by_a_killed_run_is_put_back(target: Path) -> None:
    write_old(target.with_name("model.partial-old"))
    write_old(target.with_name("model.partial-99999"))
    with pytest.raises(InputError, match="pass --force"), output_folder(target, force=False):
        pass
    assert whole_version(target) == "old"
    assert names_beside(target) == ["model"]


def test_an_old_folder_that_was_already_replaced_is_removed(target: Path) -> None:
    write_old(target)
    write_old(target.with_name("model.partial-old"))
    with output_folder(target, force=True) as output:
        write_version(output.folder, "new")
    assert whole_version(target) == "new"
    assert names_beside(target) == ["model"]


def test_a_leftover_counts_as_dead_even_if_its_process_number_lives_again(target: Path) -> None:
    write_old(target.with_name(f"model.partial-{os.getppid()}"))
    target.with_name("model.partial-lock").write_text(f"process {os.getppid()} on here")
    with output_folder(target, force=False) as output:
        write_version(output.folder, "new")
    assert names_beside(target) == ["model"]


def test_folders_of_similar_names_are_not_taken_for_leftovers(target: Path) -> None:
    others = ["model.old-1", "model.partial-notes", "model2.partial-7", "xmodel.partial-7"]
    for name in others:
        write_old(target.with_name(name))
    target.with_name("model.partial-8").symlink_to("model.old-1")
    with output_folder(target, force=False):
        pass
    assert names_beside(target) == sorted([*others, "model", "model.partial-8"])
    assert whole_version(target.with_name("model.old-1")) == "old"


def write_read_only_and_stop(folder: Path) -> None:
    write_version(folder, "new")
    (folder / "onnx").chmod(0o555)
    raise ConversionError("stop")


def test_a_read_only_folder_is_removed_too(target: Path) -> None:
    with pytest.raises(ConversionError), output_folder(target, force=False) as output:
        write_read_only_and_stop(output.folder)
    assert not target.parent.exists()
