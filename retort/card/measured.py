"""What the card says of the files and figures in ``conversion.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FILES = "## Files"


def files_and_figures(record: Mapping[str, Any]) -> Iterable[str]:
    """Yield the paragraphs of the graphs in a folder, and of what validation found of them.

    Args:
        record: What ``conversion.json`` says.
    """
    rows = [
        (
            f"`{name}`",
            told["precision"],
            megabytes(told["steps"][-1]["bytes"]),
            str(told["opset"]),
            code_names(told["inputs"]),
            code_names(told["outputs"]),
        )
        for name, told in record["files"].items()
    ]
    yield FILES
    yield markdown_table(("file", "precision", "MB", "opset", "inputs", "outputs"), rows)
    links = [f"`{name}` is `{file}`" for name, file in record["links"].items()]
    if links:
        yield f"Second names of the same bytes: {', '.join(links)}."
    yield from measured(record["validation"], record.get("report"))
    unmeasured = unmeasured_files(record)
    if unmeasured:
        yield f"Made after the conversion, and not measured: {code_names(unmeasured)}."


def unmeasured_files(record: Mapping[str, Any]) -> list[str]:
    """Return the graphs that the fidelity report of ``conversion.json`` lacks, if it has one."""
    if record["validation"] is None:
        return []
    rows = {row["file"] for row in record["validation"]["files"]}
    return [name for name in record["files"] if name not in rows]


def measured(validation: Mapping[str, Any] | None, page: str | None) -> Iterable[str]:
    """Yield the paragraphs of what validation found.

    Args:
        validation: That of ``conversion.json``; None where none was made.
        page: The name of the page with plots, if there is one.
    """
    yield "## Measured"
    if validation is None:
        yield (
            "This conversion was not validated: how close its files are to the source is not known."
        )
        return
    files = validation["files"]
    yield (
        f"Fidelity is the {validation['fidelity_unit']} with {validation['reference']}, which ran "
        f"the source over {validation['texts']} texts; 1 is perfect. The largest difference is "
        "between any two output values, relative where they exceed 1. Alone/batch is the worst "
        "fidelity of a text alone against the same text in a batch, both by the same file; 1 where "
        "batch mates have no effect. Speed is against "
        f"`{files[0]['file']}`, by batch×sequence, on the machine of the conversion."
    )
    shapes = [f"speed {shape}" for shape in validation["speed_shapes"]]
    rows = [
        (
            f"`{told['file']}`",
            f"{told['fidelity_mean']:.4f}",
            f"{told['fidelity_min']:.4f}",
            f"{told['largest_difference']:.1e}",
            _figure(told["batch_mates"], ".4f"),
            *(_figure(speed, ".2f") for speed in told["speed"]),
        )
        for told in files
    ]
    yield markdown_table(
        ("file", "mean", "minimum", "largest difference", "alone/batch", *shapes), rows
    )
    for ladder in validation["ladders"]:
        yield from _ladder(ladder, validation["speed_shapes"])
    if page:
        yield f"Plots of these figures are in [{page}]({page})."


def _ladder(ladder: Mapping[str, Any], speed_shapes: Sequence[str]) -> Iterable[str]:
    yield (
        f"Recipes tried for {ladder['precision']}, with a mean fidelity of at least "
        f"{ladder['min_fidelity']:g} asked for:"
    )
    rows = [
        (
            told["recipe"],
            "passed" if told["passed"] else "failed",
            megabytes(told["bytes"]),
            f"{told['fidelity_mean']:.4f}",
            f"{told['fidelity_min']:.4f}",
            _figure(told["batch_mates"], ".4f"),
            *(_figure(speed, ".2f") for speed in told["speed"]),
            *("–" for _ in speed_shapes[len(told["speed"]) :]),
            told["note"],
        )
        for told in ladder["rungs"]
    ]
    shapes = [f"speed {shape}" for shape in speed_shapes]
    yield markdown_table(("recipe", "", "MB", "mean", "minimum", "alone/batch", *shapes, ""), rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def code_names(names: Iterable[str]) -> str:
    """Return names as code, by commas."""
    return ", ".join(f"`{name}`" for name in names)


def megabytes(size: int) -> str:
    """Return bytes in millions."""
    return f"{size / 1e6:.1f}"


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"
