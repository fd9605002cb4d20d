"""The plots of a report, each an ``svg`` element; matplotlib is imported when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from retort.page.label_places import GAP, Circle, label_places
from retort.page.nines import PERFECT, lowest, nines, nines_axis, nines_ticks
from retort.page.points import Point, node_labels
from retort.page.svg import ACCENT, BAD, GOOD, GRID, INK, MUTED, PAPER, WIDTH, as_svg, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, FRAME = 30.0, 46.0  # points: of a row, and of what stands above and below rows
LETTER = 6.6  # about the width of one, in points
MOST_LAYERS = 60
TRADEOFF_HEIGHT, LARGEST_RADIUS = 340.0, 18.0  # points


def fidelity_plot(name: str, points: Sequence[Point], target: float | None = None) -> str:
    """Draw the mean and the worst fidelity of each point, and the one that was asked for."""
    with figure(FRAME + ROW * len(points)) as (drawn, axes):
        rows = range(len(points))
        seen = [value for point in points for value in (point.worst, target or point.mean)]
        nines_axis(axes, lowest(seen))
        _rows(axes, [point.label for point in points])
        for row, point in zip(rows, points, strict=True):
            ends = nines(point.worst), nines(point.mean)
            axes.plot(ends, (row, row), color=_colour(point), linewidth=2, alpha=0.45)
            axes.plot(ends[0], row, "|", color=_colour(point), markersize=11, markeredgewidth=2)
            filled = PAPER if point.passed is False else _colour(point)
            axes.plot(ends[1], row, "o", color=_colour(point), markersize=8, mfc=filled)
            told = f"{_figure(point.mean)}  /  {_figure(point.worst)}"
            axes.text(1.01, row, told, transform=axes.get_yaxis_transform(), va="center_baseline")
        if target:
            axes.axvline(nines(target), color=INK, linewidth=1, linestyle=(0, (4, 3)))
        _margins(drawn, [point.label for point in points], right=130)
        told = "; ".join(
            f"{p.label}: mean {_figure(p.mean)}, minimum {_figure(p.worst)}" for p in points
        )
        return as_svg(drawn, name, f"Fidelity. {told}.")


def distribution_plot(name: str, points: Sequence[Point]) -> str:
    """Draw a histogram of the scores of each point, one below the other on one axis."""
    height = ROW * 1.5
    with figure(FRAME + height * len(points)) as (drawn, axes):
        start = lowest(score for point in points for score in point.scores)
        edges = np.linspace(start, PERFECT, 6 * (PERFECT - start) + 1)
        nines_axis(axes, start)
        _rows(axes, [point.label for point in points])
        for row, point in enumerate(points):
            counts, _ = np.histogram([nines(score) for score in point.scores], edges)
            bars = 0.8 * counts / max(counts.max(), 1)
            axes.axhline(row + 0.4, color=GRID, linewidth=0.8)
            axes.bar(
                edges[:-1],
                -bars,
                np.diff(edges),
                bottom=row + 0.4,
                align="edge",
                color=_colour(point),
                edgecolor=PAPER,
                linewidth=0.6,
            )
        _margins(drawn, [point.label for point in points], right=24)
        told = "; ".join(f"{point.label}: {_spread(point.scores)}" for point in points)
        return as_svg(drawn, name, f"Distribution of fidelity. {told}.")


def tradeoff_plot(name: str, points: Sequence[Point]) -> str:
    """Draw speed, fidelity and size: to the right, upwards, and the area of each point."""
    with figure(TRADEOFF_HEIGHT) as (drawn, axes):
        start = lowest(point.mean for point in points)
        places, labels = nines_ticks(start)
        fastest = max(point.speed for point in points)
        slowest = min(point.speed for point in points)
        room = max(fastest - slowest, 0.5)
        axes.set_ylim(start - 0.1, PERFECT + 0.45)
        axes.set_xlim(slowest - 0.12 * room, fastest + 0.55 * room)
        axes.set_yticks(places, labels, color=MUTED)
        axes.xaxis.set_major_formatter("{x:g}×")
        axes.grid(visible=True, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        largest = max(point.bytes for point in points)
        for point in points:
            area = math.pi * _radius(point, largest) ** 2
            place = point.speed, nines(point.mean)
            axes.scatter(*place, s=area, color=_colour(point), alpha=0.22, linewidth=0)
            axes.scatter(*place, s=14, color=_colour(point))
        axes.set_xlabel("speed against fp32, mean over shapes")
        axes.set_title("mean fidelity", loc="left", fontsize=12, color=MUTED, pad=8)
        drawn.subplots_adjust(left=64 / WIDTH, right=1 - 8 / WIDTH, top=0.91, bottom=0.15)
        _labels(axes, points)
        told = "; ".join(
            f"{p.label}: {p.speed:.2f} times as fast, mean fidelity {_figure(p.mean)}, "
            f"{p.bytes / 1e6:.1f} MB"
            for p in points
        )
        return as_svg(drawn, name, f"Speed, fidelity and size. {told}.")


def layers_plot(name: str, layers: Mapping[str, float]) -> str:
    """Draw the relative error of each node, in the graph's order; of many, the worst 60."""
    worst = sorted(layers, key=layers.__getitem__, reverse=True)[:MOST_LAYERS]
    shown = {layer: layers[layer] for layer in layers if layer in set(worst)}
    labels = node_labels(list(shown))
    with figure(FRAME + 18 * len(shown)) as (drawn, axes):
        _rows(axes, labels, size=11)
        for row, error in enumerate(shown.values()):
            axes.plot((0, error), (row, row), color=ACCENT, linewidth=2, alpha=0.45)
            axes.plot(error, row, "o", color=ACCENT, markersize=6)
        axes.set_xlim(0, 1.08 * max([*shown.values(), 1e-9]))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        _margins(drawn, labels, right=24)
        told = "; ".join(f"{layer}: {layers[layer]:.2g}" for layer in worst[:5])
        return as_svg(drawn, name, f"Relative output error of each node. The worst: {told}.")


def _colour(point: Point) -> str:
    return {None: ACCENT, True: GOOD, False: BAD}[point.passed]


def _rows(axes: Axes, labels: Sequence[str], size: float = 12) -> None:
    """Give each label a row, the first at the top."""
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    axes.set_ylim(len(labels) - 0.4, -0.6)


def _margins(drawn: Figure, labels: Sequence[str], right: float) -> None:
    """Leave room for the labels at the left, and so many points at the right."""
    left = LETTER * max(map(len, labels)) + 18
    height = drawn.get_figheight() * 72
    drawn.subplots_adjust(
        left=min(left / WIDTH, 0.5), right=1 - right / WIDTH, top=1 - 8 / height, bottom=30 / height
    )


def _labels(axes: Axes, points: Sequence[Point]) -> None:
    """Write each label where it hides nothing, with a line to its point if that is not near."""
    box = axes.get_position()
    width, height = box.width * WIDTH, box.height * TRADEOFF_HEIGHT
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    largest = max(point.bytes for point in points)
    texts = [f"{point.label}, {point.bytes / 1e6:.1f} MB" for point in points]
    circles = [
        Circle(
            (point.speed - left) / (right - left) * width,
            (nines(point.mean) - low) / (high - low) * height,
            _radius(point, largest),
            LETTER * len(text),
        )
        for point, text in zip(points, texts, strict=True)
    ]
    places = label_places(circles, width, height)
    for text, circle, place in zip(texts, circles, places, strict=True):
        ends = (place.left / width, place.middle / height)
        axes.text(*ends, text, transform=axes.transAxes, va="center_baseline")
        x, y = place.nearest(circle)
        if math.hypot(x - circle.x, y - circle.y) > circle.radius + 2 * GAP:
            line = [[circle.x / width, x / width], [circle.y / height, y / height]]
            axes.plot(*line, transform=axes.transAxes, color=MUTED, linewidth=0.8)


def _radius(point: Point, largest: int) -> float:
    return LARGEST_RADIUS * math.sqrt(point.bytes / largest)


def _figure(fidelity: float) -> str:
    return f"{fidelity:.4f}"


def _spread(scores: Sequence[float]) -> str:
    low, middle = np.quantile(scores, (0.05, 0.5))
    return f"half above {_figure(float(middle))}, 95% above {_figure(float(low))}"
