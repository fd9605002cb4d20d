"""``retort inspect``: what graph files say of themselves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.errors import InputError

INSPECT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "path": {"type": Path, "metavar": "FILE|FOLDER", "help": "an .onnx file, or a folder of them"},
    "--json": {"action": "store_true", "help": "print one JSON line for each graph"},
}


def inspect(options: argparse.Namespace) -> Iterator[str]:
    """Print inputs, outputs, operators, opsets, metadata and sizes of graphs.

    Weights outside a graph's file are not read, and need not be there.

    Raises:
        InputError: If there is no graph, or a file is not ONNX.
    """
    from retort.graphs.graph_facts import graph_facts

    for path, *also in _graphs(options.path):
        facts = graph_facts(path, also)
        yield json.dumps(facts.as_json(), ensure_ascii=False) if options.json else facts.table()


def _graphs(path: Path) -> list[list[Path]]:
    """Return the graphs of a folder, each with all its names, or the one file."""
    if not path.is_dir():
        return [[path]]
    names: dict[tuple[int, int], list[Path]] = {}
    for graph in sorted(path.rglob("*.onnx")):
        if graph.is_file():
            stat = graph.stat()
            names.setdefault((stat.st_dev, stat.st_ino), []).append(graph)
    if not names:
        raise InputError(f"{path} holds no .onnx file; give a folder with one, or a file")
    return list(names.values())
