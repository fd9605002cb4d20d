"""``retort inspect``: what graph files say of themselves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.folder_graphs import distinct_files

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

    path: Path = options.path
    for graph, *also in distinct_files(path) if path.is_dir() else [[path]]:
        facts = graph_facts(graph, also)
        yield json.dumps(facts.as_json(), ensure_ascii=False) if options.json else facts.table()
