"""``report.html``: what validation found, as a page that needs nothing beside it.

It has no script, no font and no image of its own or of others, so it works from a disk and offline;
it follows the reader's light or dark theme; and the same report gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from retort import __version__
from retort.page.elements import paragraph, plot, section
from retort.page.plots import distribution_plot, fidelity_plot, layers_plot, tradeoff_plot
from retort.page.points import Point, file_points, rung_points
from retort.page.tables import figures_table, graphs_table, rungs_table
from retort.report import Ladder, ValidationReport
from retort.talk import doing

MUCH_SMALLER = 0.75  # of the first file, for the sentence at the top
_SCALE = "On this scale each step to the right is a tenth of the error; 1 is perfect."


def write_page(
    path: Path, name: str, report: ValidationReport, unmeasured: Sequence[str] = ()
) -> None:
    """Write the page of a report to a file; ``report_page`` says what the arguments are."""
    with doing(f"drawing {path.name}"):
        path.write_text(report_page(name, report, unmeasured), encoding="utf-8")


def report_page(name: str, report: ValidationReport, unmeasured: Sequence[str] = ()) -> str:
    """Return a page that shows a report: plots, tables, and what its words mean.

    Args:
        name: The model's name, its title.
        report: What validation found.
        unmeasured: Files that were made since, so that the report lacks them.
    """
    style = (files("retort") / "data" / "report.css").read_text(encoding="utf-8")
    title = f"{name}: fidelity of its ONNX files"
    body = "\n".join(_body(name, report, unmeasured))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _body(name: str, report: ValidationReport, unmeasured: Sequence[str]) -> Iterator[str]:
    points = file_points(report.files)
    yield f"<header>\n<h1>{escape(name)}</h1>"
    yield paragraph(
        f"Fidelity of its ONNX files: {report.fidelity_unit} with {report.reference}, over "
        f"{report.texts} texts.",
        "under",
    )
    yield "</header>\n<main>"
    if lead := _lead(points):
        yield paragraph(lead, "lead")
    if unmeasured:
        yield paragraph(f"Made after the conversion, and not measured: {', '.join(unmeasured)}.")
    yield _fidelity(points)
    if traded := [point for point in points if math.isfinite(point.speed)]:
        yield _tradeoff(traded)
    yield _distribution(points)
    for number, ladder in enumerate(report.ladders):
        yield _ladder(f"ladder{number}", ladder, report)
    figures = figures_table(report.files, report.speed_shapes)
    yield section("All figures", figures, graphs_table(report.files))
    yield f"</main>\n{_footer(report)}"


def _lead(points: list[Point]) -> str:
    first, *others = points
    if not others:
        return ""
    smallest = min(others, key=lambda point: point.bytes)
    if smallest.bytes > MUCH_SMALLER * first.bytes:
        return ""
    speed = f", at {smallest.speed:.1f} times its speed" if math.isfinite(smallest.speed) else ""
    return (
        f"The smallest file, {smallest.label}, has {100 * smallest.bytes / first.bytes:.0f}% of "
        f"the size of {first.label}{speed}; its fidelity is {smallest.mean:.4f} in the mean and "
        f"{smallest.worst:.4f} at the worst."
    )


def _fidelity(points: list[Point]) -> str:
    return section(
        "Fidelity of each file",
        paragraph(f"Dot and first figure: the mean; bar and second figure: the worst. {_SCALE}"),
        plot(fidelity_plot("fidelity", points)),
    )


def _tradeoff(points: list[Point]) -> str:
    return section(
        "Size, fidelity and speed",
        paragraph(
            "To the right is faster, upwards is closer to the original, and the area of a circle "
            "is the size of its file."
        ),
        plot(tradeoff_plot("tradeoff", points)),
    )


def _distribution(points: list[Point]) -> str:
    scored = [point for point in points if point.scores]
    if not scored:
        return ""
    return section(
        "Distribution of the scores",
        paragraph("How many scores lie where; every row has its own height."),
        plot(distribution_plot("distribution", scored)),
    )


def _ladder(name: str, ladder: Ladder, report: ValidationReport) -> str:
    points = rung_points(ladder)
    parts = [
        paragraph(
            f"Recipes from the fastest to the most careful, measured on texts that none was "
            f"calibrated with. The dashed line is the mean fidelity asked for, "
            f"{ladder.min_fidelity:g}."
        ),
        plot(fidelity_plot(name, points, target=ladder.min_fidelity)),
        rungs_table(ladder, report.speed_shapes),
    ]
    if traded := [point for point in points if math.isfinite(point.speed)]:
        parts.append(plot(tradeoff_plot(f"{name}-tradeoff", traded)))
    if ladder.layers:
        layers = plot(layers_plot(f"{name}-layers", ladder.layers))
        note = paragraph("Relative error of each quantized node's output in the chosen file.")
        parts.append(section("Error by layer", note, layers, level=3))
    return section(f"Recipes tried for {ladder.precision}", *parts)


def _footer(report: ValidationReport) -> str:
    told = (
        f"Fidelity is the {report.fidelity_unit} between a file and {report.reference}, which ran "
        "the original model; texts are run in batches of 8 and alone, padded right and left, at "
        "length 1 and at the maximum. Difference is the largest between any two output values, "
        "relative where they exceed 1. Alone/batch is the worst fidelity of a text alone against "
        "the same text among others, both by the same file: 1 where batch mates have no effect. "
        f"Speed is against {report.files[0].file} on the machine of the measurement, by "
        "batch×sequence; files take turns, and the fastest run counts. MB are millions of bytes."
    )
    made = paragraph(f"Made by Retort {__version__}.")
    return f"<footer>\n{paragraph(told)}\n{made}\n</footer>"
