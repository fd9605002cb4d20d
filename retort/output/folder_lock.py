"""A lock for one output folder, which the system drops when its process dies."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from retort.errors import InputError

if sys.platform == "win32":
    import msvcrt

    # A locked byte cannot be read on Windows, so it lies far behind the owner's name.
    _LOCKED_BYTE = 1 << 30

    def _try_to_lock(file: BinaryIO) -> bool:
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            file.seek(0)
        return True

else:
    import fcntl

    def _try_to_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def folder_lock(target: Path) -> Iterator[None]:
    """Hold ``<target>.partial-lock`` while inside, and remove it at the end.

    The lock is the system's (``flock``; ``msvcrt.locking`` on Windows), not the file: a file
    that a killed process left is free, whatever process has its number by now. A network file
    system that shares locks between machines (NFS, SMB) protects runs on two machines as well.

    Raises:
        InputError: Another process, which is named, or another thread holds the lock.
        OSError: The file cannot be written, or the file system has no locks.
    """
    path = target.with_name(f"{target.name}.partial-lock")
    file = _locked_file(path, target)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        _remove(path, file)


def _locked_file(path: Path, target: Path) -> BinaryIO:
    """Open and lock the file, again if its former owner removed it in between."""
    while True:
        with ExitStack() as stack:
            file = stack.enter_context(_open(path))
            if not _try_to_lock(file):
                owner = file.read().decode() or "another process"
                raise InputError(
                    f"{target} is being written by {owner}; wait until it ends, or stop it"
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    stack.pop_all()
                    return file


def _open(path: Path) -> BinaryIO:
    """Open the file for reading and writing, made if missing, never through a link.

    It has no buffer, so that the next run reads its owner as soon as that is written.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)


def _remove(path: Path, file: BinaryIO) -> None:
    """Remove the file before the lock goes, so that nobody holds a lock on a file without name.

    Windows does not remove an open file: there it goes last, unless the next run has it open.
    """
    if sys.platform == "win32":
        file.close()
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
    else:
        path.unlink(missing_ok=True)
        file.close()
