"""What a request to stop does to a run: it becomes an exception, at a moment that can bear it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Windows has no SIGHUP, the signal of a closed terminal or a lost connection.
_KILLING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_STOPPING = [signal.SIGINT, *_KILLING]


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise ``SystemExit`` (143, 129), so that ``finally`` blocks run.

    Only signals that would kill the process are changed: a program's own handler, or a signal
    ignored by ``nohup``, stays as it is. Outside the main thread nothing changes.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    deadly = [number for number in _KILLING if signal.getsignal(number) is signal.SIG_DFL]
    with _handled_by(leave, deadly):
        yield


@contextmanager
def stop_signals_wait() -> Iterator[None]:
    """Hold back Ctrl-C, SIGTERM and SIGHUP while inside; the first of them acts at the end.

    A signal mask would not do: another thread can take the signal, and Python would still run
    the handler here. Outside the main thread nothing changes: Python runs no handler there.
    """
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    untouchable = (signal.SIG_IGN, None)  # None is a handler that Python could not put back
    numbers = [number for number in _STOPPING if signal.getsignal(number) not in untouchable]
    try:
        with _handled_by(wait, numbers):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None], numbers: list[int]
) -> Iterator[None]:
    """Give the signals another handler while inside, in the main thread only."""
    previous: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                previous[number] = signal.getsignal(number)
                signal.signal(number, handler)
        yield
    finally:
        for number, handler_before in previous.items():
            signal.signal(number, handler_before)
