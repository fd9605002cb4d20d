"""HTML elements of a page: sections, figures and tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        kind: A class of the style sheet, or none.
    """

    text: str
    kind: str = ""


def section(title: str, *parts: str, level: int = 2) -> str:
    """Return parts under a heading."""
    inside = "\n".join([f"<h{level}>{escape(title)}</h{level}>", *parts])
    return f"<section>\n{inside}\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def plot(svg: str) -> str:
    """Return a figure, which scrolls where the page is narrow."""
    return f"<figure>\n{svg}\n</figure>"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    *,
    label: str,
    words: Collection[int] = (0,),
) -> str:
    """Return a table whose first column names the rows.

    Args:
        header: The names of the columns.
        rows: Cells, as many in each.
        label: What the table tells, for those who cannot see it.
        words: The columns that start at the left.
    """
    head = "".join(
        f'<th scope="col"{_class("words" if index in words else "")}>{escape(name)}</th>'
        for index, name in enumerate(header)
    )
    body = "\n".join(f"<tr>{_row(row, words)}</tr>" for row in rows)
    return (
        f'<div class="scroll">\n<table aria-label="{escape(label, quote=True)}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _row(row: Sequence[str | Cell], words: Collection[int]) -> str:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
    return "".join(
        _cell(cell, "words" if index in words else "", first=index == 0)
        for index, cell in enumerate(cells)
    )


def _cell(cell: Cell, kind: str, *, first: bool) -> str:
    kinds = " ".join(filter(None, [kind, cell.kind]))
    if first:
        return f'<th scope="row"{_class(kinds)}>{escape(cell.text)}</th>'
    return f"<td{_class(kinds)}>{escape(cell.text)}</td>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
