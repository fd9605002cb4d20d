"""How every command ends: an exit code, and one line on stderr if it is not 0."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

from retort.errors import RetortError

AGAIN = "nothing was written, run it again"
INTERRUPTED = 128 + signal.SIGINT  # what a shell expects, so that Ctrl-C also ends its loop


def run_command(command: Callable[[], None], *, verbose: bool) -> int:
    """Run a command and return its exit code: 0, 1, 2, 3, or 130 after Ctrl-C.

    Args:
        command: What to do; it prints its own results.
        verbose: Whether an error shows its traceback.
    """
    try:
        command()
        sys.stdout.flush()
    except RetortError as error:
        return _fail(str(error), error.exit_code, verbose=verbose)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {AGAIN}", INTERRUPTED, verbose=False)
    except SystemExit as stop:  # SIGTERM or SIGHUP, see retort.output.stop_signals
        code = stop.code if isinstance(stop.code, int) else 1
        return _fail(f"stopped by a signal; {AGAIN}", code, verbose=False)
    except Exception as error:  # the last boundary: a user gets one line, not a traceback
        if _stdout_fails():
            return _fail(f"stdout cannot be written ({error}); redirect it", 1, verbose=verbose)
        message = f"{type(error).__name__}: {error} (a bug in Retort? --verbose shows where)"
        return _fail(message, 1, verbose=verbose)
    return 0


def _stdout_fails() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        # Python flushes once more at exit; what is left must have somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _fail(message: str, exit_code: int, *, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line}\n")
    return exit_code
