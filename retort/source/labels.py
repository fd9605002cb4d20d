"""The names of a classifier's labels, and the files that tell them to consumers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.json_files import optional_object

# What transformers writes where nobody named the labels: LABEL_0, LABEL_1, …
UNNAMED = "LABEL_"


def label_table(checkpoint: Checkpoint, unnamed: Mapping[int, str] | None = None) -> dict[int, str]:
    """Return labels by index, from ``config.json`` or else ``id2label.json`` or ``label2id.json``.

    Args:
        checkpoint: The classifier.
        unnamed: What they are called where none of the files tells; None: they must be told.

    Raises:
        InputError: If none of them names the labels.
    """
    tables = (
        _table(checkpoint, "id2label"),
        optional_object(checkpoint.folder / "id2label.json"),
        _inverted(optional_object(checkpoint.folder / "label2id.json")),
        _inverted(_table(checkpoint, "label2id")),
    )
    named = (t for t in tables if not all(str(name).startswith(UNNAMED) for name in t.values()))
    labels = next(named, tables[0]) or unnamed or {}
    if not labels or {str(index) for index in labels} != {str(i) for i in range(len(labels))}:
        raise InputError(
            f"{checkpoint.backbone / 'config.json'}: no id2label that names the labels 0, 1, 2, …; "
            "add it there"
        )
    return {int(index): str(label) for index, label in sorted(labels.items(), key=_index)}


def label_settings(labels: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Return ``id2label`` and ``label2id`` as ``config.json`` has them."""
    return {
        "id2label": {str(index): label for index, label in labels.items()},
        "label2id": {label: index for index, label in labels.items()},
    }


def label_files(checkpoint: Checkpoint, labels: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Return the two tables as files of their own, except those that the source has."""
    files = {f"{name}.json": table for name, table in label_settings(labels).items()}
    return {name: file for name, file in files.items() if not (checkpoint.folder / name).exists()}


def _table(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    table = checkpoint.config.get(key) or {}
    if not isinstance(table, dict):
        raise InputError(f"{checkpoint.backbone / 'config.json'}: {key} is no table; correct it")
    return table


def _inverted(table: Mapping[str, Any]) -> dict[Any, str]:
    return {index: label for label, index in table.items()}


def _index(item: tuple[Any, Any]) -> int:
    return int(item[0])
