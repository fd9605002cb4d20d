"""Where labels stand beside the points of a plot, so that they hide neither each other nor points.

The first free place of a few is taken, as in Imhof, Positioning Names on Maps, 1975.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP, LINE = 5.0, 15.0  # points: between a circle and its label, and of a line of text
MOST_LINES = 6


@dataclass(frozen=True)
class Circle:
    """A point of a plot as it is drawn, in points from the lower left corner of the plot.

    Attributes:
        x: Of its centre.
        y: Of its centre.
        radius: Its radius.
        label_width: How wide its label will be.
    """

    x: float
    y: float
    radius: float
    label_width: float


@dataclass(frozen=True)
class Box:
    """Where a label stands: its left end, the middle of its height, and its width."""

    left: float
    middle: float
    width: float

    def meets(self, other: Box) -> bool:
        """Tell whether two labels cover each other."""
        beside = self.left + self.width <= other.left or other.left + other.width <= self.left
        return not beside and abs(self.middle - other.middle) < LINE

    def covers(self, circle: Circle) -> bool:
        """Tell whether the label lies on a circle."""
        x, y = self.nearest(circle)
        return (x - circle.x) ** 2 + (y - circle.y) ** 2 < circle.radius**2

    def nearest(self, circle: Circle) -> tuple[float, float]:
        """Return the place of the label that is nearest to a circle's centre."""
        x = min(max(circle.x, self.left), self.left + self.width)
        y = min(max(circle.y, self.middle - LINE / 2), self.middle + LINE / 2)
        return x, y


def label_places(circles: Sequence[Circle], width: float, height: float) -> list[Box]:
    """Return a place for the label of each circle, in their order.

    Args:
        circles: The points of the plot.
        width: Of the plot, in points.
        height: Likewise.

    Returns:
        The first place that is free, or the one at the right where none is.
    """
    taken: list[Box] = []
    for circle in circles:
        inside = (box for box in _places(circle) if _is_inside(box, width, height))
        free = (box for box in inside if _is_free(box, taken, circles))
        taken.append(next(free, next(_places(circle))))
    return taken


def _places(circle: Circle) -> Iterator[Box]:
    """Yield places from the best: right, left, then lines below and above, and at their right."""
    beside, width = circle.radius + GAP, circle.label_width
    yield Box(circle.x + beside, circle.y, width)
    yield Box(circle.x - beside - width, circle.y, width)
    for line in range(MOST_LINES):
        away = circle.radius + LINE * (line + 0.6)
        for side in (-1, 1):
            for start in (-circle.radius, -width / 2, circle.radius - width, beside):
                yield Box(circle.x + start, circle.y + side * away, width)


def _is_free(box: Box, taken: Sequence[Box], circles: Sequence[Circle]) -> bool:
    return not any(map(box.meets, taken)) and not any(map(box.covers, circles))


def _is_inside(box: Box, width: float, height: float) -> bool:
    return 0 <= box.left <= width - box.width and LINE / 2 <= box.middle <= height - LINE / 2
