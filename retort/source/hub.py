"""Read models from the Hugging Face Hub: exact commit, needed files only, errors in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

# Documented as public, but re-exported in a way that mypy does not count.
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from retort import __version__
from retort.errors import InputError
from retort.source.hub_errors import (
    BrokenDownloadError,
    Request,
    explain,
    has_token,
    is_transient,
)
from retort.source.hub_retries import progress_bars, with_retries

TIMEOUT = 10.0  # seconds without a byte from the Hub
_REVISION = re.compile(r"[^\s~^:?*\[\\/]+(/[^\s~^:?*\[\\/]+)*")  # git check-ref-format, roughly
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub, as it was asked for.

    Attributes:
        model_id: The Hub id, ``org/name`` or ``name``.
        revision: A branch, tag or commit; None for the default branch.
        token: The access token; None for what huggingface_hub finds itself. Never shown.
        cache_dir: Where downloads are kept; None for huggingface_hub's own cache.
    """

    model_id: str
    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    cache_dir: str | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a model at the commit that its revision stood for when it was asked."""

    model: HubModel
    commit: str
    files: tuple[str, ...]


def is_hub_id(model_id: str) -> bool:
    """Return whether this is a Hub id by huggingface_hub's own rule."""
    try:
        validate_repo_id(model_id)
    except HFValidationError:
        return False
    return model_id.isascii() and model_id.isprintable()


def check_request(model: HubModel) -> None:
    """Check what huggingface_hub would put into addresses, paths and headers as it stands.

    Raises:
        InputError: If the revision cannot be one of git's, or the token cannot be a token.
    """
    revision = model.revision
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise InputError(
            f"--revision {revision!r}: not a name that git allows; give a branch, tag or commit"
        )
    check_token(model.token)


def check_token(token: str | None) -> None:
    """Check the token that is given, and the one that huggingface_hub finds itself.

    Raises:
        InputError: If one of them cannot be a token; it is not shown.
    """
    for value, place in ((token, "--token"), (get_token(), "HF_TOKEN or the stored login")):
        if value and not re.fullmatch(r"[!-~]+", value):
            raise InputError(f"{place}: has characters that no access token has; copy it once more")


def is_offline() -> bool:
    """Return whether the user switched the network off, with ``HF_HUB_OFFLINE``."""
    return bool(constants.HF_HUB_OFFLINE)


def list_files(model: HubModel) -> Listing:
    """Ask the Hub which commit the revision stands for, and which files it has.

    Raises:
        HubUnreachableError: If there is no answer.
        RetortError: If the Hub refuses, or keeps failing.
    """

    def ask() -> Listing:
        api = HfApi(token=model.token, library_name="retort", library_version=__version__)
        info = api.model_info(model.model_id, revision=model.revision, timeout=TIMEOUT)
        names = [file.rfilename for file in info.siblings or []]
        if not info.sha or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
            raise InputError(
                f"{model.model_id}: the Hub has no commit of it; upload the model first"
            )
        return Listing(model, info.sha, tuple(sorted(filter(_is_inside, names))))

    return _with_retries(ask, model, downloading=False)


def download(listing: Listing, files: Collection[str], *, progress: bool) -> Path:
    """Download some files of a model into the cache, unless they are there.

    Args:
        listing: The model at an exact commit.
        files: Which of its files.
        progress: Whether to show progress bars, if stderr is a terminal.

    Returns:
        The snapshot's folder; it may hold files of earlier downloads too.

    Raises:
        RetortError: If the Hub refuses or keeps failing, or the cache cannot be written.
    """
    model = listing.model

    def fetch() -> Path:
        # Asked for by its name, so that the cache knows the name in later offline runs.
        folder = _snapshot(model, model.revision, files)
        if folder.name != listing.commit:  # the branch has moved on since it was listed
            folder = _snapshot(model, listing.commit, files)
        if not all((folder / name).exists() for name in files):
            raise BrokenDownloadError(f"{model.model_id}: the network went away")
        return folder

    with progress_bars(shown=progress and sys.stderr.isatty()):
        return _with_retries(fetch, model, downloading=True)


def _snapshot(model: HubModel, revision: str | None, files: Collection[str]) -> Path:
    folder = snapshot_download(
        model.model_id,
        revision=revision,
        token=model.token,
        cache_dir=model.cache_dir,
        allow_patterns=[re.sub(r"([\[*?])", r"[\1]", name) for name in files],
        library_name="retort",
        library_version=__version__,
    )
    return Path(folder).absolute()


def cached_snapshot(model: HubModel) -> Path | None:
    """Return the folder of a copy downloaded earlier, whole or not; its name is the commit."""
    try:
        folder = snapshot_download(
            model.model_id,
            revision=model.revision,
            cache_dir=model.cache_dir,
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder).absolute()


def _is_inside(name: str) -> bool:
    return name.isprintable() and not name.startswith("/") and ".." not in name.split("/")


def _with_retries(action: Callable[[], _Result], model: HubModel, *, downloading: bool) -> _Result:
    request = Request(
        model.model_id,
        model.revision,
        has_token(model.token),
        model.cache_dir or constants.HF_HUB_CACHE,
        downloading,
    )
    return with_retries(
        action,
        model.model_id,
        is_transient=partial(is_transient, request=request),
        explain=partial(explain, request=request),
    )
