"""An axis of fidelity on which 0.9, 0.99 and 0.999 are as far apart as they are to a user."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PERFECT = 6  # nines that six digits can show
_LABELS = {0: "0", 1: "0.9", 2: "0.99", 3: "0.999", 4: "0.9999", 5: "0.99999", PERFECT: "1"}


def nines(fidelity: float) -> float:
    """Return -log10(1 - fidelity), between 0 and 6; 0 for what is no number."""
    if not math.isfinite(fidelity):
        return 0.0
    return min(max(-math.log10(max(1 - fidelity, 10.0**-PERFECT)), 0.0), float(PERFECT))


def lowest(fidelities: Iterable[float]) -> int:
    """Return the tick at or below all of these, with room beside it."""
    return max(0, min(math.floor(min(map(nines, fidelities), default=0) - 0.05), PERFECT - 2))


def nines_ticks(start: int) -> tuple[list[int], list[str]]:
    """Return the places of the ticks from a start to 1, and their labels."""
    places = list(range(start, PERFECT + 1))
    return places, [_LABELS[place] for place in places]


def nines_axis(axes: Axes, start: int) -> None:
    """Let an x axis of nines run from a tick to 1, with a line at each tick."""
    from retort.page.svg import GRID

    places, labels = nines_ticks(start)
    axes.set_xlim(start - 0.05, PERFECT + 0.15)
    axes.set_xticks(places, labels)
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
