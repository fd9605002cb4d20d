"""The names of a converted classifier's labels."""

from __future__ import annotations

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph

UNNAMED_LABELS = 2  # how many transformers takes where config.json says nothing


def label_names(folder: Folder) -> tuple[str, ...]:
    """Return the labels by id, from ``config.json``.

    Raises:
        InputError: It has no ``id2label`` that names all of them.
    """
    names = folder.mapping("config.json").get("id2label")
    if not isinstance(names, dict) or not all(str(index) in names for index in range(len(names))):
        raise InputError(
            f"{folder.path}/config.json has no id2label that names the labels 0, 1, 2, …: "
            "convert the checkpoint again"
        )
    return tuple(str(names[str(index)]) for index in range(len(names)))


def label_names_or_numbers(folder: Folder) -> tuple[str, ...]:
    """Return the labels by id, ``LABEL_0``, … where ``config.json`` names none.

    Raises:
        InputError: It names some of them only.
    """
    config = folder.mapping("config.json")
    if config.get("id2label"):
        return label_names(folder)
    count = config.get("num_labels") or UNNAMED_LABELS
    if not isinstance(count, int):
        raise InputError(f"{folder.path}/config.json: num_labels is {count!r}, not a number")
    return tuple(f"LABEL_{index}" for index in range(count))


def check_width(graph: Graph, width: int, labels: tuple[str, ...]) -> None:
    """Check that a graph gives a logit for each label.

    Raises:
        InputError: It gives more or fewer.
    """
    if width != len(labels):
        raise InputError(
            f"{graph.path} gives {width} logits, but config.json names {len(labels)} labels: they "
            "are of different checkpoints"
        )
