"""Put files into a repository of the Hub: all in one commit, whatever fails in between.

What was sent before a failure is not sent again: the Hub says of each large file whether it has
it. Nor is anything committed twice: a commit names the one that it follows, and holds only what
the repository lacks, so that the next try after a lost answer finds nothing left to do.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import XetAuthorizationError, XetRefreshTokenError

from retort import __version__
from retort.errors import InputError
from retort.output.upload_errors import Destination, explain, is_transient
from retort.source.hub import TIMEOUT
from retort.source.hub_errors import endpoint, one_line
from retort.source.hub_retries import progress_bars, with_retries

logger = logging.getLogger(__name__)


def upload(files: Mapping[str, Path | bytes], destination: Destination, *, progress: bool) -> None:
    """Upload files in one commit to a repository, which is created if it is not there.

    Args:
        files: Each file, or its content, by its name in the repository. What else the repository
            has stays there.
        destination: The repository.
        progress: Whether to show progress bars, if stderr is a terminal.

    Raises:
        InputError: If the Hub refuses the token, the repository or a file.
        ConversionError: If the network or the Hub keeps failing.
    """
    api = HfApi(token=destination.token or None, library_name="retort", library_version=__version__)
    with progress_bars(shown=progress and sys.stderr.isatty()), _empty_commits_unmentioned():
        _with_retries(partial(_create, api, destination), destination)
        _with_retries(partial(_commit, api, destination, files), destination)


def _create(api: HfApi, destination: Destination) -> None:
    # None, not False: an organization may have private repositories by default.
    private = True if destination.private else None
    api.create_repo(destination.repo_id, private=private, exist_ok=True)


def _commit(api: HfApi, destination: Destination, files: Mapping[str, Path | bytes]) -> None:
    """Commit what the repository lacks, unless it moves on in the meantime."""
    repo_id = destination.repo_id
    there = api.model_info(repo_id, timeout=TIMEOUT)
    if destination.private and not there.private:
        raise InputError(
            f"{repo_id} exists and is public, which --private cannot change: make it private at "
            f"{endpoint()}/{repo_id}/settings, choose another, or drop --private"
        )
    additions = [CommitOperationAdd(name, content) for name, content in files.items()]
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always", UserWarning)  # what the Hub says of the card
        done = api.create_commit(
            repo_id,
            additions,
            commit_message=f"ONNX files by Retort {__version__}",
            parent_commit=there.sha or None,
        )
    for remark in remarks:
        logger.warning("%s: %s", repo_id, one_line(remark.message))
    if done.oid == there.sha:
        logger.info("%s has all of this already; nothing was committed", repo_id)
    graphs = {item.rfilename for item in there.siblings or [] if item.rfilename.endswith(".onnx")}
    if others := sorted(graphs - files.keys()):
        logger.warning("%s also has %s, from another time", repo_id, ", ".join(others))


def _with_retries(action: Callable[[], None], destination: Destination) -> None:
    def attempt() -> None:
        try:
            action()
        except OSError:
            raise
        except (ValueError, KeyError, XetAuthorizationError, XetRefreshTokenError) as error:
            _, is_card, told = str(error).partition("Invalid metadata in README.md.")
            if is_card:
                raise InputError(f"README.md: the Hub refuses it ({one_line(told)})") from error
            raise explain(error, destination) from error

    with_retries(
        attempt,
        destination.repo_id,
        is_transient=is_transient,
        explain=partial(explain, destination=destination),
    )


@contextmanager
def _empty_commits_unmentioned() -> Iterator[None]:
    """Silence the library where it warns of a commit that has nothing to commit."""
    talk = logging.getLogger("huggingface_hub.hf_api")
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        yield
    finally:
        talk.setLevel(level)
