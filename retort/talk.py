"""What a conversion says: logging, third parties' noise, and errors with their history."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from retort.errors import ConversionError, RetortError

# Loggers whose information concerns the libraries' authors, not the user of a conversion.
THIRD_PARTIES = (
    "optimum",
    "transformers",
    "sentence_transformers",
    "torch",
    "onnxruntime",
    "root",
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
    except (RetortError, OSError):
        raise
    except Exception as error:  # the one place where libraries' many errors become ours
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConversionError(
            f"{what} failed: {first_line} ({type(error).__name__}; --verbose shows where)"
        ) from error


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
        logger.setLevel(logging.ERROR)
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
