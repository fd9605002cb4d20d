"""Tell a local folder from a Hub id, and name it."""

from __future__ import annotations

import re
from pathlib import Path

from retort.errors import InputError

# What cannot be meant as a Hub id: it starts or ends like a path, or has more than two parts.
_PATH_LIKE = re.compile(
    r"\.{1,2}|[~/\\].*|\.{1,2}[/\\].*|.*[/\\]|[A-Za-z]:[/\\].*|[^/]*/[^/]*/.*", re.S
)


def local_folder(model_id: str) -> Path | None:
    """Return the folder that a model id names, or None if it can only be a Hub id.

    As in transformers, what exists on this disk is local, even if it looks like a Hub id.

    Args:
        model_id: As the user wrote it: absolute or relative, with ``~``, ``..`` or a slash at
            the end, or a symbolic link.

    Returns:
        The path, with ``~`` expanded but otherwise as it was written.

    Raises:
        InputError: If it is no possible name, or a file, or a path at which there is nothing.
    """
    if not model_id.strip() or not model_id.isprintable():
        raise InputError(f"{model_id!r}: no possible model name; give a Hub id or a local folder")
    try:
        path = Path(model_id).expanduser()
        is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
    except (OSError, RuntimeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise InputError(
            f"{model_id[:100]}: cannot be looked up ({problem}); check the path"
        ) from error
    if is_folder:
        return path
    if path.is_symlink():
        raise InputError(f"{model_id}: a link to a folder that is not there; check where it leads")
    if exists:
        raise InputError(f"{model_id}: a file, not a folder; pass the folder that it lies in")
    if _PATH_LIKE.fullmatch(model_id):
        raise InputError(f"{model_id}: folder not found (from {Path.cwd()}); check the path")
    return None


def folder_name(path: Path) -> str:
    """Return the name by which the user knows a local folder.

    It is the last part of the path as it was written, so a symbolic link keeps its own name: one
    who links ``my-model`` to a folder of hashes means ``my-model``. Where the path ends in ``.``
    or ``..``, or is only ``~``, it is the name of the folder that this leads to.

    Raises:
        InputError: If the path is the root of the file system, which has no name.
    """
    name = path.name if path.name not in ("", "..") else path.resolve().name
    if not name:
        raise InputError(f"{path}: has no folder name to call the result by; pass another folder")
    return name
