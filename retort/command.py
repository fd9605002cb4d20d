"""How every command ends: an exit code, and one line on stderr if it is not 0."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable

from retort.errors import RetortError

STOPPED = {128 + signal.SIGTERM, 128 + 1}  # and SIGHUP, see retort.output.stop_signals
AGAIN = "nothing was written, run it again"
INTERRUPTED = 128 + signal.SIGINT  # what a shell expects, so that Ctrl-C also ends its loop


def run_command(command: Callable[[], None]) -> int:
    """Run a command and return its exit code: 0, 1, 2, 3, or 130 after Ctrl-C.

    An error shows its traceback where Retort's log is at DEBUG, which ``--verbose`` sets.

    Args:
        command: What to do, parsing its options included; it prints its own results.

    Raises:
        SystemExit: What ``argparse`` raises, after --help or a usage error.
    """
    try:
        command()
        sys.stdout.flush()
    except RetortError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:
        return _fail(f"interrupted; {stop.args[0] if stop.args else AGAIN}", INTERRUPTED)
    except SystemExit as stop:
        if stop.code not in STOPPED:
            raise
        return _fail(f"stopped by a signal; {AGAIN}", int(stop.code))
    except Exception as error:  # the last boundary: a user gets one line, not a traceback
        if _stdout_fails(error):
            return _fail(f"stdout cannot be written ({error}); redirect it", 1)
        message = f"{type(error).__name__}: {error} (a bug in Retort? --verbose shows where)"
        return _fail(message, 1)
    return 0


def _stdout_fails(error: Exception) -> bool:
    try:
        sys.stdout.flush()
    except OSError as unflushed:
        error = unflushed
    else:
        if not isinstance(error, BrokenPipeError):
            return False
    # Python flushes once more at exit; what is left must have somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _fail(message: str, exit_code: int) -> int:
    if logging.getLogger("retort").isEnabledFor(logging.DEBUG) and sys.exc_info()[0]:
        traceback.print_exc()
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line}\n")
    return exit_code
