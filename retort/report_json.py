"""A fidelity report as ``conversion.json`` keeps it, read again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from retort.report import FileReport, Ladder, RungReport, ValidationReport


def report_from_json(told: Mapping[str, Any]) -> ValidationReport:
    """Return the report that ``as_json`` wrote; of many scores there are the percentiles alone.

    Raises:
        KeyError: If a value is missing.
    """
    files = tuple(FileReport(**_values(FileReport, row)) for row in told["files"])
    ladders = tuple(_ladder(ladder) for ladder in told["ladders"])
    parts = {"files": files, "ladders": ladders}
    return ValidationReport(**{**_values(ValidationReport, told), **parts})


def _ladder(told: Mapping[str, Any]) -> Ladder:
    rungs = tuple(RungReport(**_values(RungReport, rung)) for rung in told["rungs"])
    return Ladder(**{**_values(Ladder, told), "rungs": rungs})


def _values(kind: type, told: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: _value(told[item.name]) for item in fields(kind)}


def _value(value: Any) -> Any:
    """Return a value as the reports hold it: tuples for lists, NaN for null."""
    if isinstance(value, list):
        return tuple(_value(part) for part in value)
    return math.nan if value is None else value
