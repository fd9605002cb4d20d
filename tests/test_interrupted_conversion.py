"""Conversions that are stopped, killed or run out of disk leave the old result as it was."""

from __future__ import annotations

import gc
import logging
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import STAGES, Ended, contents, convert_here, earlier_result, listing, start
from tiny_checkpoints import build_encoder

Capture = pytest.CaptureFixture[str]
KILLED = [(stage, signal.SIGKILL) for stage in STAGES]
STOPPED = [("exporting", signal.SIGINT), ("quantizing", signal.SIGTERM)]
# More than a message, less than any graph of the tiny checkpoints.
FULL_AT_BYTES = 20_000
# What the log says when each stage begins; nothing announces that files are placed.
BEGINNINGS = {stage: stage for stage in STAGES} | {"placing": "packaging"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint; only read."""
    return build_encoder(tmp_path_factory.mktemp("source") / "model", "bert")


@dataclass(frozen=True)
class Stopped:
    """A process that got a signal: its end, and all in the output's parent before and after."""

    ended: Ended
    out: Path
    before: dict[str, str]
    after: dict[str, str]


def command(model: Path, out: Path) -> tuple[str | Path, ...]:
    return (
        "--model_id",
        model,
        "--output_parent_dir",
        out,
        "--quantize",
        "QInt8",
        "--recipe",
        "plain",
        "--force",
    )


def stop_at(stage: str, number: signal.Signals, model: Path, out: Path) -> Stopped:
    """Start a conversion, and send a signal as soon as it says that the stage begins."""
    before = contents(earlier_result(out))
    process = start(*command(model, out))
    try:
        assert process.stderr is not None
        said = next((line for line in process.stderr if line.startswith(stage)), "")
        process.send_signal(number)
        printed, rest = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Stopped(Ended(process.returncode, printed, said + rest), out, before, contents(out))


@pytest.fixture(scope="module")
def stopped(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, signal.Signals], Stopped]:
    """Return what came of a process for each stage and signal; two of them run at a time."""
    listed = listing(model)
    cases = KILLED + STOPPED
    folders = [tmp_path_factory.mktemp("out") for _ in cases]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda case, out: stop_at(case[0], case[1], model, out), cases, folders)
        found = dict(zip(cases, results, strict=True))
    assert listing(model) == listed
    return found


@pytest.mark.parametrize("case", KILLED, ids=STAGES)
def test_a_killed_conversion_harms_nothing_and_the_next_one_cleans_up(
    case: tuple[str, signal.Signals],
    stopped: dict[tuple[str, signal.Signals], Stopped],
    model: Path,
    capfd: Capture,
) -> None:
    run = stopped[case]
    assert (run.ended.code, run.ended.stdout) == (-signal.SIGKILL, "")
    assert {name: run.after[name] for name in run.before} == run.before
    assert any(name.startswith("model.partial-") for name in run.after)
    fast = ("--optimize", "0", "--skip_validation")
    ended = convert_here(
        capfd, "--model_id", model, "--output_parent_dir", run.out, "--force", *fast
    )
    assert (ended.code, ended.stdout) == (0, f"{run.out / 'model'}\n"), ended
    assert [path.name for path in run.out.iterdir()] == ["model"]


@pytest.mark.parametrize("case", STOPPED, ids=["Ctrl-C", "SIGTERM"])
def test_a_process_told_to_stop_leaves_nothing_and_says_so_in_one_line(
    case: tuple[str, signal.Signals], stopped: dict[tuple[str, signal.Signals], Stopped]
) -> None:
    run = stopped[case]
    assert (run.ended.code, run.ended.stdout) == (128 + case[1], "")
    assert run.after == run.before
    assert "nothing was written, run it again" in run.ended.error


class Act(logging.Handler):
    """Does something when the log says certain words."""

    def __init__(self, words: str, act: Callable[[], None]) -> None:
        super().__init__()
        self.words = words
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        """Act, if the words are in the message."""
        if self.words in record.getMessage():
            self.act()


@pytest.fixture
def heard() -> Iterator[None]:
    """Let Ctrl-C be heard: shells start what runs in their background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def when_said(words: str, act: Callable[[], None]) -> Iterator[None]:
    handler = Act(words, act)
    logger = logging.getLogger("retort.convert")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("stage", BEGINNINGS)
def test_ctrl_c_at_any_stage_leaves_the_old_result(
    stage: str, model: Path, tmp_path: Path, capfd: Capture
) -> None:
    before, listed = contents(earlier_result(tmp_path)), listing(model)
    with when_said(BEGINNINGS[stage], lambda: signal.raise_signal(signal.SIGINT)):
        ended = convert_here(capfd, *command(model, tmp_path))
    assert (ended.code, ended.stdout) == (130, "")
    assert ended.error == "error: interrupted; nothing was written, run it again"
    assert (contents(tmp_path), listing(model)) == (before, listed)


def limit_file_size() -> None:
    """Let every write beyond some bytes of a file fail, as on a full disk (with EFBIG)."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AT_BYTES, hard))


@pytest.fixture
def file_size_limit_put_back() -> Iterator[None]:
    """Yield, and lift the limit again."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# The temporary folder of ONNX Runtime's optimizer, which it does not remove after an error.
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.usefixtures("file_size_limit_put_back")
@pytest.mark.parametrize("stage", ["exporting", "optimizing", "quantizing", "placing"])
def test_a_disk_that_is_full_at_any_stage_leaves_the_old_result(
    stage: str, model: Path, tmp_path: Path, capfd: Capture
) -> None:
    before, listed = contents(earlier_result(tmp_path)), listing(model)
    with when_said(BEGINNINGS[stage], limit_file_size):
        ended = convert_here(capfd, *command(model, tmp_path))
    gc.collect()
    assert (ended.code, ended.stdout) == (1, "")
    assert (contents(tmp_path), listing(model)) == (before, listed)
    reasons = ["choose another --output_parent_dir"]
    if stage == "optimizing":  # ONNX Runtime, which writes this file, does not tell the reason
        reasons.append("optimization of model.onnx at level 1 failed")
    assert any(reason in ended.error for reason in reasons), ended.error
