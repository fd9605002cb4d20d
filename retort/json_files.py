"""Read the JSON files of a checkpoint, and say plainly what is wrong with a damaged one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retort.errors import InputError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        InputError: If the file is not JSON, or something else than an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object; save or download the checkpoint again")
    return value


def optional_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, an empty one where there is no such file.

    Raises:
        InputError: As ``read_object``.
    """
    return read_object(path) if path.is_file() else {}


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        InputError: If the file cannot be read, or is not JSON.
    """
    refuse_lfs_pointer(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not valid JSON, perhaps cut short ({error}); save or download it again"
        ) from error


def refuse_lfs_pointer(path: Path) -> None:
    """Check that a file can be read and is not what ``git clone`` leaves without Git LFS.

    Raises:
        InputError: If it cannot be read, or is such a pointer.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_LFS_POINTER))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if start == _LFS_POINTER:
        raise InputError(f"{path}: a Git LFS pointer, not the file; run git lfs pull there")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented UTF-8 JSON, making the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
