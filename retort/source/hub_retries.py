"""Ask the Hub again when it fails for a moment, and keep its library's talk in bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import constants

# These are documented as public, but re-exported in a way that mypy does not count.
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from retort.errors import RetortError
from retort.source.hub_errors import cause_of, reason, wait_before_retry, without_addresses

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0, 4.0)  # seconds before the second, third and last attempt
_Result = TypeVar("_Result")


def with_retries(
    action: Callable[[], _Result],
    repo_id: str,
    *,
    is_transient: Callable[[BaseException], bool],
    explain: Callable[[BaseException], RetortError],
) -> _Result:
    """Return what the action returns, tried again where that may help.

    Args:
        action: What to do; done again from its beginning.
        repo_id: Named in the messages.
        is_transient: Whether the same may succeed a little later.
        explain: The error to show for the last failure.

    Raises:
        RetortError: What ``explain`` returns, or the action raises.
    """
    waits = iter(WAITS)
    while True:
        try:
            with _without_addresses():
                return action()
        # RuntimeError is what hf_xet, huggingface_hub's transport of large files, raises.
        except (OSError, RuntimeError) as error:
            cause = cause_of(error)
            wait = next(waits, None)
            if wait is None or not is_transient(cause):
                raise explain(cause) from error
            seconds = wait_before_retry(cause, wait)
            logger.warning("%s: %s; trying again in %g s", repo_id, reason(cause), seconds)
            time.sleep(seconds)


@contextmanager
def progress_bars(*, shown: bool) -> Iterator[None]:
    """Hide huggingface_hub's progress bars while inside, unless they are wanted."""
    # A user who set the environment variable has the last word, as in huggingface_hub.
    if shown or are_progress_bars_disabled() or constants.HF_HUB_DISABLE_PROGRESS_BARS is False:
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _without_addresses() -> Iterator[None]:
    """Keep addresses, which can hold a signature, out of the library's notes on its retries."""
    talk = logging.getLogger("huggingface_hub.utils._http")
    talk.addFilter(_hide_addresses)
    try:
        yield
    finally:
        talk.removeFilter(_hide_addresses)


def _hide_addresses(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_addresses(record.getMessage()), ()
    return True
