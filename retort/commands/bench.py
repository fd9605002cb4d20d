"""``retort bench``: how fast the graphs of a folder are."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retort.errors import InputError

SHAPES = "1x32,8x128,32x128"
_SHAPE = re.compile(r"([1-9]\d*)[x×]([1-9]\d*)")

BENCH_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "folder": {"metavar": "FOLDER", "type": Path, "help": "a folder with .onnx files"},
    "--rounds": {
        "type": int,
        "default": 5,
        "metavar": "N",
        "help": "how often each file is timed at each shape; the fastest run counts; 5 if unset",
    },
    "--shapes": {
        "default": SHAPES,
        "metavar": "BATCHxSEQUENCE,...",
        "help": f"the shapes of the inputs; {SHAPES} if unset",
    },
    "--json": {"action": "store_true", "help": "print one JSON line"},
}


def bench(options: argparse.Namespace) -> Iterator[str]:
    """Print how long each graph of a folder takes, and how many times faster it is than fp32.

    The files take turns in random order, with pauses, and the fastest run of each counts.

    Raises:
        InputError: If the folder has no graphs, or a shape is none.
        ConversionError: If a graph does not run.
    """
    shapes = parse_shapes(options.shapes)
    if options.rounds < 1:
        raise InputError(f"--rounds {options.rounds}: give 1 or more")

    from retort.bench import bench_folder

    table = bench_folder(options.folder, shapes, options.rounds)
    yield json.dumps(table.as_json(), ensure_ascii=False) if options.json else table.table()


def parse_shapes(text: str) -> Sequence[tuple[int, int]]:
    """Return the shapes in ``1x32,8x128``.

    Raises:
        InputError: If one is no batch×sequence.
    """
    found = [_SHAPE.fullmatch(part.strip()) for part in text.split(",")]
    shapes = [(int(match[1]), int(match[2])) for match in found if match]
    if len(shapes) != len(found):
        raise InputError(f"--shapes {text}: give batch and sequence as in {SHAPES}")
    return shapes
