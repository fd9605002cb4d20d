"""Figures as SVG that stands inside a page, takes its fonts and follows its colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that matplotlib draws with, and the variables of the page that take their places.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
ACCENT, GOOD, BAD = "#050505", "#060606", "#070707"
_VARIABLES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    ACCENT: "--accent",
    GOOD: "--good",
    BAD: "--bad",
}
WIDTH = 720  # points; the page scales it
FONT_SIZE = 12.0


@contextmanager
def figure(height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure of the page's width and its axes, without frame, in the page's style.

    Args:
        height: In points.
    """
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure

    with rc_context():
        rcdefaults()  # whatever the user has set
        rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "retort",
                "text.parse_math": False,
                "font.size": FONT_SIZE,
                "font.family": "DejaVu Sans",  # comes with matplotlib; the page has its own
                "text.color": INK,
                "axes.labelcolor": MUTED,
                "axes.edgecolor": GRID,
                "axes.facecolor": "none",
                "xtick.color": MUTED,
                "ytick.color": INK,
            }
        )
        drawn = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")
        axes = drawn.add_subplot()
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0, pad=6)
        yield drawn, axes


def as_svg(drawn: Figure, name: str, told: str) -> str:
    """Return a figure as an ``svg`` element, the same bytes for the same figure.

    Args:
        drawn: The figure.
        name: A word that no other figure of the page has, for its identifiers.
        told: What it shows, for those who cannot see it.
    """
    stream = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn.savefig(stream, format="svg", metadata=none)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening(told), svg, count=1)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _opening(told: str) -> str:
    label = html.escape(told, quote=True).replace("\\", "\\\\")
    return rf'<svg viewBox="\1" role="img" aria-label="{label}">'
