"""The command line that a conversion can be made again with."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from retort.arguments import ConversionArguments

# Told apart from the others, or without influence on the files.
_LEFT_OUT = frozenset({"model_id", "revision", "verify", "verify_text"})


def command_line(record: Mapping[str, Any]) -> str:
    """Return ``python convert.py ...`` with the recorded arguments that are not the defaults."""
    source, chosen = record["source"], record["arguments"]
    words = ["python", "convert.py", "--model_id", source["model_id"]]
    if source["commit"]:
        words += ["--revision", source["commit"]]
    for field in fields(ConversionArguments):
        default = [] if field.default is MISSING else field.default
        value = chosen.get(field.name, default)
        if field.name not in _LEFT_OUT and value != default:
            words += _option(field.name, value)
    return shlex.join(words)


def _option(name: str, value: object) -> Iterable[str]:
    if value is True:
        return [f"--{name}"]
    if value is False:
        return [f"--no_{name}"]
    return [f"--{name}", ",".join(value) if isinstance(value, list) else str(value)]
