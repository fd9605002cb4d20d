"""``retort optimize``: one graph file with fused operators."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.commands.graph_options import FORCE, FP32_FILE, SKIP_SHAPE_INFERENCE

logger = logging.getLogger(__name__)

OPTIMIZE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "file": FP32_FILE,
    "--level": {
        "type": int,
        "choices": (1, 2, 99),
        "default": 1,
        "help": "1 portable fusions; 2 adds fusions for this execution provider; 99 adds layouts "
        "for this very processor",
    },
    "--output": {
        "type": Path,
        "metavar": "FILE",
        "help": "the file to write; beside FILE as <name>_opt<level>.onnx if unset",
    },
    "--stats": {"action": "store_true", "help": "print both graphs side by side"},
    "--skip_shape_inference": SKIP_SHAPE_INFERENCE,
    "--force": FORCE,
}


def optimize(options: argparse.Namespace) -> Iterator[str]:
    """Write a graph with fused operators beside it, and compare the two.

    Raises:
        InputError: If the graph cannot be used, or the output not be written.
        ConversionError: If it cannot be optimized, or the result differs from it.
    """
    from retort.found_file import graph_at
    from retort.optimize_file import optimize_file

    graph = graph_at(options.file)
    output = options.output or graph.with_name(f"{graph.stem}_opt{options.level}.onnx")
    result = optimize_file(
        graph,
        options.level,
        output,
        force=options.force,
        skip_shape_inference=options.skip_shape_inference,
    )
    told = (graph.name, result.before.nodes, output.name, result.after.nodes)
    logger.info("%s, %d nodes → %s, %d nodes", *told)
    if options.stats:
        yield result.table()
    yield str(output)
