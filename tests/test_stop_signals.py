"""Signals that ask a run to stop act as exceptions, and wait where the work may not break off."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from retort.errors import ConversionError
from retort.output.output_folder import output_folder
from retort.output.stop_signals import stop_signals_raise, stop_signals_wait


@pytest.fixture
def usual_handlers() -> Iterator[None]:
    """Have the signals handled as Python starts, whatever the runner has set; then put back."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt_and_note(done: list[str]) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    done.append("the rest of the block")


@pytest.mark.usefixtures("usual_handlers")
def test_signals_wait_while_a_folder_is_cleaned_up_and_act_afterwards() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), stop_signals_wait():
        interrupt_and_note(done)
    assert done == ["the rest of the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("usual_handlers")
def test_handlers_are_put_back_and_those_of_the_program_are_never_changed() -> None:
    def own_handler(number: int, frame: object) -> None:
        """Do nothing: only its identity matters."""

    signal.signal(signal.SIGHUP, own_handler)
    with stop_signals_raise():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is own_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is own_handler


@pytest.mark.usefixtures("usual_handlers")
def test_a_signal_that_would_kill_raises_system_exit_with_the_status_of_a_shell() -> None:
    with pytest.raises(SystemExit) as caught, stop_signals_raise():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143


def fill_and_stop(folder: Path) -> None:
    for number in range(3000):
        (folder / str(number)).touch()
    changed = folder.stat().st_mtime_ns
    threading.Thread(target=interrupt_once_changed, args=[folder, changed]).start()
    raise ConversionError("stop")


def interrupt_once_changed(folder: Path, changed: int) -> None:
    while folder.stat().st_mtime_ns == changed:
        pass
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("usual_handlers")
def test_ctrl_c_while_a_folder_is_removed_does_not_stop_the_removal(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt), output_folder(target, force=False) as output:
        fill_and_stop(output.folder)
    assert list(tmp_path.iterdir()) == []
