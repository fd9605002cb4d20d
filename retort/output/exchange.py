"""Put a finished folder in its place in one step, and tidy up after runs that did not get there.

Beside ``<target>``, while its lock is held, there can be:

* ``<target>.partial-<pid>``: a folder in the making, or one that is being removed;
* ``<target>.partial-old``: the whole old folder, where a system cannot exchange two folders.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import shutil
import sys
from pathlib import Path

logger = logging.getLogger(__name__)

_AT_FDCWD = -100  # Linux: paths start at the current folder
_SWAP = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS
_CANNOT_SWAP = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def partial_path(target: Path) -> Path:
    """Return the path at which this process builds ``target``."""
    return target.with_name(f"{target.name}.partial-{os.getpid()}")


def leftovers(target: Path) -> list[Path]:
    """Return the folders beside ``target`` that runs for it made and did not remove."""
    if not target.parent.is_dir():
        return []
    ours = re.compile(re.escape(target.name) + r"\.partial-(\d+|old)")
    return [
        path
        for path in target.parent.iterdir()
        if ours.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    ]


def publish(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``, in exchange for the folder that is there, if any.

    Linux (``renameat2``) and macOS (``renamex_np``) exchange two folders in one step. Elsewhere
    the old one is renamed first: whoever is killed in between leaves ``<target>.partial-old``,
    which ``clean_up`` puts back. The caller holds the lock and calls ``clean_up`` afterwards.

    Raises:
        OSError: A rename failed; what ``clean_up`` then leaves is the old folder.
    """
    if not os.path.lexists(target):
        new.rename(target)
    elif not exchange(new, target):
        logger.info("%s: this file system exchanges folders in two steps only", target)
        target.rename(_set_aside(target))
        new.rename(target)
    sync(target.parent)


def exchange(first: Path, second: Path) -> bool:
    """Let two folders swap names in one step; return False where the system cannot.

    Raises:
        OSError: The system can, and refused.
    """
    if sys.platform == "win32":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(first), os.fsencode(second))
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_SWAP))
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, ctypes.c_uint(_SWAP))
    else:
        return False
    number = ctypes.get_errno()
    if failed and number not in _CANNOT_SWAP:
        raise OSError(number, os.strerror(number), str(first), None, str(second))
    return not failed


def clean_up(target: Path) -> None:
    """Put back an old folder whose successor never came; remove all other leftovers.

    The caller holds the lock of ``target``: no living process owns what is found. A folder that
    cannot be removed is logged and left.

    Raises:
        OSError: The old folder could not be put back.
    """
    aside = _set_aside(target)
    if aside.is_dir() and not os.path.lexists(target):
        aside.rename(target)
        logger.warning("put back %s: a run was stopped while it replaced the folder", target)
    for path in leftovers(target):
        try:
            # Under its own name, a half-removed old folder would be put back some day.
            remove_tree(path.rename(partial_path(target)) if path == aside else path)
        except OSError as error:
            logger.warning("could not remove %s (%s); remove it by hand", path, error)


def remove_tree(folder: Path) -> None:
    """Remove a folder, even with read-only folders in it (copies of a read-only checkpoint).

    Raises:
        OSError: Something in it could not be removed.
    """
    for place, _, _ in os.walk(folder):
        if not os.access(place, os.W_OK):
            Path(place).chmod(0o700)
    shutil.rmtree(folder)


def sync_tree(folder: Path) -> None:
    """Have every file and folder written to the disk, so that a power cut loses none.

    Raises:
        OSError: One could not be read, or its bytes could not be written.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            sync_tree(path)
        elif path.is_file() and not path.is_symlink():
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Have one file's bytes, or one folder's names, written to the disk."""
    windows = sys.platform == "win32"
    if windows and path.is_dir():
        return  # Windows opens no folders, and writes their names itself
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems sync files, but know no such thing for folders.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _set_aside(target: Path) -> Path:
    """Return where the old folder waits during an exchange in two steps."""
    return target.with_name(f"{target.name}.partial-old")
