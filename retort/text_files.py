"""Texts of the user's own: one on each line, in a field of JSON lines, or one in each file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retort.errors import InputError
from retort.json_files import refuse_lfs_pointer

TEXT_FIELD = "text"


def read_texts(
    path: Path, field: str = TEXT_FIELD, *, option: str = "--text_field"
) -> tuple[str, ...]:
    """Return the texts in a file or a folder, in order, those without a letter or sign left out.

    Args:
        path: A UTF-8 file with a text on each line; a ``.jsonl`` file, https://jsonlines.org, with
            an object on each line; or a folder, of which each ``.txt`` file is one text.
        field: The key of the text in those objects.
        option: What the user names that key with.

    Raises:
        InputError: If there is no such file or no text in it, or one is not UTF-8, not JSON, or
            has no such field.
    """
    if path.is_dir():
        texts = [_content(file).strip() for file in sorted(path.glob("*.txt"))]
    elif path.suffix == ".jsonl":
        texts = _fields(path, field, option)
    else:
        texts = _content(path).splitlines()
    kept = tuple(text for text in texts if text.strip())
    if not kept:
        what = "no .txt file with a text" if path.is_dir() else "no text"
        raise InputError(f"{path}: {what} in it; give a file with one on each line")
    return kept


def _content(path: Path) -> str:
    refuse_lfs_pointer(path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it so") from error


def _fields(path: Path, field: str, option: str) -> list[str]:
    # Not splitlines: JSON may hold U+2028 and its like inside a string.
    lines = _content(path).split("\n")
    told = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    return [_field(f"{path}, line {number}", line, field, option) for number, line in told]


def _field(where: str, line: str, field: str, option: str) -> str:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); give one object on each line") from error
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        keys = ", ".join(value) if isinstance(value, dict) else "no object"
        raise InputError(
            f"{where}: has no text in the field {field!r} (it has {keys}); name it with {option}"
        )
    return value[field]
