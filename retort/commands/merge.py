"""``retort merge``: one graph and all its external data in one file, or two."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.commands.graph_options import FORCE

MERGE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "file": {"type": Path, "metavar": "FILE", "help": "an .onnx file, or a folder with one"},
    "--output": {
        "type": Path,
        "metavar": "FILE",
        "help": "the file to write, FILE itself with --force; beside FILE as <name>_merged.onnx "
        "if unset",
    },
    "--force": FORCE,
}


def merge(options: argparse.Namespace) -> Iterator[str]:
    """Write a graph in many files as one, or from 2 GB on as one and its <name>.onnx_data.

    Raises:
        InputError: If the graph is not ONNX or not whole, or the output not to be written.
        ConversionError: If the result cannot be written.
    """
    from retort.found_file import graph_at
    from retort.merge_file import merge_file

    graph = graph_at(options.file)
    output = options.output or graph.with_name(f"{graph.stem}_merged.onnx")
    yield str(merge_file(graph, output, force=options.force))
