"""``retort quantize``: one graph file in 4, 8 or 16 bits."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from retort.arguments import PRECISIONS, REFUSED_PRECISIONS, OptimizeArguments
from retort.commands.graph_options import FORCE, FP32_FILE, SKIP_SHAPE_INFERENCE

# As transformers.js has them; Q8 alone is a name of ours.
SUFFIXES = {
    "QInt8": "int8",
    "QUInt8": "uint8",
    "Float16": "fp16",
    **{name: name.lower() for name in ("Q8", "Q4", "Q4F16", "BNB4")},
}
_HELP = {field.name: field.metadata["help"] for field in fields(OptimizeArguments)}
_TARGETS = get_args(get_type_hints(OptimizeArguments)["target"])
_BY_LOWER = {name.lower(): name for name in PRECISIONS}
BLOCK_SIZES = get_args(get_type_hints(OptimizeArguments)["block_size"])


def _precision(text: str) -> str:
    name = _BY_LOWER.get(text.lower(), text)
    if name in SUFFIXES:
        return name
    if name in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{name}: is calibrated on texts; use convert.py")
    reason = REFUSED_PRECISIONS.get(name.lower(), f"choose from {', '.join(SUFFIXES)}")
    raise argparse.ArgumentTypeError(f"{name}: {reason}")


QUANTIZE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "file": FP32_FILE,
    "--dtype": {
        "type": _precision,
        "default": "QInt8",
        "metavar": f"{{{','.join(SUFFIXES)}}}",
        "help": "the precision; QInt8 if unset",
    },
    "--output": {
        "type": Path,
        "metavar": "FILE",
        "help": "the file to write; if unset <name>_ and the precision beside FILE: "
        f"{', '.join(SUFFIXES.values())}",
    },
    "--per_channel": {"action": "store_true", "default": True, "help": _HELP["per_channel"]},
    "--no_per_channel": {
        "action": "store_false",
        "dest": "per_channel",
        "help": "8-bit: one scale for a whole weight",
    },
    "--reduce_range": {"action": "store_const", "const": True, "help": _HELP["reduce_range"]},
    "--no_reduce_range": {
        "action": "store_const",
        "const": False,
        "dest": "reduce_range",
        "help": "8-bit: 8-bit weights on every target",
    },
    "--target": {"choices": _TARGETS, "default": "auto", "help": _HELP["target"]},
    "--block_size": {
        "type": int,
        "choices": BLOCK_SIZES,
        "default": 32,
        "help": _HELP["block_size"],
    },
    "--skip_shape_inference": SKIP_SHAPE_INFERENCE,
    "--force": FORCE,
}


def quantize(options: argparse.Namespace) -> Iterator[str]:
    """Write a graph, portable or fused, in 4, 8 or 16 bits beside it.

    Raises:
        InputError: If the graph cannot be used, or the output not be written.
        ConversionError: If it cannot be quantized.
    """
    from retort.found_file import graph_at
    from retort.quantize_file import quantize_file
    from retort.stages.quantize import quantize_settings

    graph = graph_at(options.file)
    settings = quantize_settings(
        OptimizeArguments(
            recipe="plain",
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            target=options.target,
            block_size=options.block_size,
            skip_shape_inference=options.skip_shape_inference,
        ),
        options.dtype,
    )
    output = options.output or graph.with_name(f"{graph.stem}_{SUFFIXES[options.dtype]}.onnx")
    yield str(quantize_file(graph, settings, output, force=options.force))
