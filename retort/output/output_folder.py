"""The finished folder appears whole or not at all, and nothing else is ever harmed.

A run builds in ``<target>.partial-<pid>`` and renames it to ``<target>`` at the end; see
``retort.output.exchange`` for the rename, and ``retort.output.folder_lock`` for two runs at a time.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from retort.errors import ConversionError, InputError, RetortError
from retort.output.exchange import clean_up, partial_path, publish, remove_tree, sync_tree
from retort.output.folder_lock import folder_lock
from retort.output.output_rules import ELSEWHERE, refuse_existing, refuse_harm, refuse_reserved_name
from retort.output.stop_signals import stop_signals_raise, stop_signals_wait

logger = logging.getLogger(__name__)

_FREE_SPACE = f"free space there, or {ELSEWHERE}"
_PERMISSIONS = f"check the permissions, or {ELSEWHERE}"
_ADVICE = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: f"raise the limit of file sizes (ulimit -f), or {ELSEWHERE}",
    errno.EROFS: ELSEWHERE,
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
}
_NO_HARD_LINKS = {
    *(errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
}


@dataclass(frozen=True)
class OutputFolder:
    """A folder in the making.

    Attributes:
        folder: ``<target>.partial-<pid>``: what is written here becomes the target.
        scratch: A folder in it for the stages' temporary files, removed at the end.
    """

    folder: Path
    scratch: Path


def target_folder(output_parent_dir: Path, name: str) -> Path:
    """Return the folder that a checkpoint's name stands for, without creating anything.

    Args:
        output_parent_dir: The folder that holds the results; it need not exist, and may be a link.
        name: A Hub id (``org/name``) or a folder's name.

    Raises:
        InputError: The name leads out of ``output_parent_dir``, or cannot name a folder.
    """
    parts = PurePath(name).parts
    if not name.strip() or not parts or any(ord(letter) < ord(" ") for letter in name):
        raise InputError(f"{name!r} cannot name an output folder; rename the checkpoint")
    target = output_parent_dir / name
    parent = Path(os.path.realpath(target.parent))
    inside = parent.is_relative_to(os.path.realpath(output_parent_dir))
    if ".." in parts or PurePath(name).anchor or not inside:
        raise InputError(f"{name!r} leads out of {output_parent_dir}; rename it, or {ELSEWHERE}")
    for part in parts:
        refuse_reserved_name(part)
    return target


@contextmanager
def output_folder(
    target: Path, *, force: bool, source: Path | None = None
) -> Iterator[OutputFolder]:
    """Build ``target`` beside its place; put it there only when the body ends without an error.

    With ``force`` the old folder is replaced at the end, in one step where the system can. After
    an error, Ctrl-C, SIGTERM or SIGHUP nothing is left, and an old folder is as it was. What a
    killed process left is removed by the next run for the same target.

    What stands at the target is replaced only if it is an empty folder or has the
    ``conversion.json`` that Retort writes; never a file, a link or a mount point.

    Args:
        target: The folder to make; missing parents are made, and removed again after an error.
        force: Whether to replace an existing folder.
        source: The checkpoint, which may neither hold the target nor lie in it.

    Raises:
        InputError: The target may not or cannot be written, or another run is writing it.
        ConversionError: The disk is full, or writing is not allowed.
    """
    target = target.absolute()
    with ExitStack() as stack:
        stack.enter_context(stop_signals_raise())
        with stop_signals_wait(), _explaining(target, InputError):
            refuse_reserved_name(target.name)
            refuse_harm(target, source)
            stack.enter_context(_parents(target))
            stack.enter_context(folder_lock(target))
            stack.callback(_clean_up, target)
            clean_up(target)
            refuse_existing(target, force)
            output = _begin(target)
        with _explaining(target, ConversionError, only=_ADVICE):
            yield output
        with _explaining(target, ConversionError):
            _finish(output, target, force)


def link_or_copy(source: Path, destination: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links.

    A link shares its bytes with the source: use it within one output folder, not for the files
    of a checkpoint.

    Raises:
        OSError: Neither was possible.
    """
    real = os.path.realpath(source)  # of a symbolic link, some systems would link the link
    try:
        os.link(real, destination)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        logger.info("copying %s to %s: no hard link (%s)", source, destination, error.strerror)
        shutil.copyfile(real, destination)


def _begin(target: Path) -> OutputFolder:
    """Make the folders to work in, with the permissions that the umask gives."""
    folder = partial_path(target)
    output = OutputFolder(folder, folder / ".scratch")
    output.folder.mkdir()
    output.scratch.mkdir()
    return output


def _finish(output: OutputFolder, target: Path, force: bool) -> None:
    """Put the finished folder in its place, once all of it is on the disk."""
    if output.scratch.exists():
        remove_tree(output.scratch)
    sync_tree(output.folder)
    refuse_existing(target, force)  # somebody may have made one in the meantime
    publish(output.folder, target)


def _clean_up(target: Path) -> None:
    """Remove what this run leaves; an impatient second Ctrl-C waits."""
    with stop_signals_wait():
        clean_up(target)


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the missing parents; after an error remove those that are empty."""
    missing = [path for path in target.parents if not path.is_dir()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
        yield
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):  # another run works in it
                path.rmdir()
        raise


@contextmanager
def _explaining(
    target: Path, kind: type[RetortError], only: Container[int] | None = None
) -> Iterator[None]:
    """Turn the system's errors (``only`` those numbers, if given) into one line with advice."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        where = f" ({error.filename})" if error.filename else ""
        advice = _ADVICE.get(error.errno or 0, ELSEWHERE)
        reason = f"{error.strerror or error}{where}"
        raise kind(f"could not write {target}: {reason}; {advice}") from error
