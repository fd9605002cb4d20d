"""What a conversion says: logging, third parties' noise, and errors with their history."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator

from retort.errors import ConversionError, RetortError
from retort.memory import without_leftovers

# Loggers whose information concerns the libraries' authors, not the user of a conversion.
THIRD_PARTIES = (
    "optimum",
    "transformers",
    "sentence_transformers",
    "torch",
    "onnxruntime",
    "root",
)

DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
)


def set_up_logging(*, quiet: bool, verbose: bool) -> None:
    """Send Retort's log to stderr: warnings only if quiet, debug lines too if verbose."""
    if not verbose:
        # transformers sets its own level when it is imported, which is later.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("retort", "onnx_configs"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def show_progress(*, quiet: bool) -> bool:
    """Tell whether progress bars are welcome: on a terminal, unless quiet."""
    return not quiet and sys.stderr.isatty()


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Turn any foreign error inside into a ConversionError that says what was being done.

    Raises:
        ConversionError: In place of whatever a library raised, which stays as its cause.
    """
    try:
        yield
    except RetortError:
        raise
    except Exception as error:  # the one place where libraries' many errors become ours
        number = _system_error(error)
        if number:
            raise OSError(number, os.strerror(number), getattr(error, "filename", None)) from error
        raise ConversionError(
            f"{what} failed: {_gist(error)} ({type(error).__name__}; --verbose shows where)"
        ) from error


def _system_error(error: Exception) -> int | None:
    # A full disk is the output folder's to explain, also where a library in Rust met it.
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    return number if number in DISK_ERRORS else None


def _gist(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


@contextlib.contextmanager
def third_party_work(what: str) -> Iterator[io.StringIO]:
    """Run a library's part of a stage: its errors told, its talk silenced, its memory freed.

    Yields:
        What it printed so far.

    Raises:
        ConversionError: In place of whatever the library raised.
    """
    with doing(what), third_party_quiet() as printed, without_leftovers():
        yield printed


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Hide, inside, transformers' progress bars, which count files and not the user's work."""
    from transformers.utils import logging as library

    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()


@contextlib.contextmanager
def third_party_quiet() -> Iterator[io.StringIO]:
    """Silence, inside, the talk of tracers and optimizers that says nothing of the result.

    ``--verbose`` (Retort's logger at DEBUG) lets their logs and warnings through; what they print
    never reaches stdout, which is for results.

    Yields:
        What they printed so far.
    """
    printed = io.StringIO()
    verbose = logging.getLogger("retort").isEnabledFor(logging.DEBUG)
    loggers = [] if verbose else [logging.getLogger(name) for name in THIRD_PARTIES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            if not verbose:
                warnings.simplefilter("ignore")
            yield printed
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for line in printed.getvalue().splitlines():
            logging.getLogger(__name__).debug("%s", line)
