"""The texts that the options of ``retort encode`` give, and the options that do not fit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from retort.errors import InputError


def given_texts(options: argparse.Namespace) -> list[str]:
    """Return the texts of ``--text`` and ``--file``.

    Raises:
        InputError: If there are none, or the file cannot be read.
    """
    texts = _texts(options)
    if not texts:
        raise InputError("no texts; give --text or --file")
    return texts


def given_sides(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the queries and the documents, ``--text`` and ``--file`` being documents.

    Raises:
        InputError: If there are neither, the file cannot be read, or both are to have one prompt.
    """
    queries, documents = list(options.query), [*options.document, *_texts(options)]
    if not (queries or documents):
        raise InputError("no texts; give --query, --document, --text or --file")
    if queries and documents:
        refuse(options, ("prompt_name",), "for queries or for documents; encode them apart")
    return queries, documents


def refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Check that options are not given.

    Raises:
        InputError: If one is, with the reason.
    """
    for name in names:
        if getattr(options, name) not in (None, []):
            raise InputError(f"--{name} is {reason}")


def _texts(options: argparse.Namespace) -> list[str]:
    return [*options.text, *_lines(options.file)]


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    # Not splitlines, which also splits at form feeds and Unicode's line separators.
    return lines.split("\n") if lines else []
