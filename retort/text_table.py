"""Tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Return a line for each row, its columns as wide as their widest cell.

    Args:
        rows: Cells, the same number in each row; the first row is usually the header.
        left: The columns that start at the left; others end at the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def or_dash(figure: float, form: str, unit: str = "") -> str:
    """Return a figure in a format, with its unit; a dash for NaN, which is not measured."""
    return "–" if math.isnan(figure) else f"{figure:{form}}{unit}"
