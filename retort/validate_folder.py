"""Validation of a folder that any tool made, against the checkpoint that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retort.arguments import ConversionArguments
from retort.artifact import Artifact
from retort.errors import FidelityError, InputError
from retort.folder_graphs import folder_graphs, folder_record
from retort.report import ValidationReport

# What a record says of the graph, and so of the reference; permissions are the user's to give.
_RECORDED = ("task", "splade_outputs", "visual_variant")


def reference_arguments(folder: Path, given: ConversionArguments) -> ConversionArguments:
    """Return what names the reference of a folder, with what its ``conversion.json`` says.

    Args:
        folder: The folder that is validated.
        given: What the user said; an empty ``model_id`` stands for the recorded source.

    Raises:
        InputError: If nothing names a reference, or the recorded one is not here.
    """
    record = folder_record(folder)
    told: Mapping[str, Any] = record.get("arguments", {})
    recorded = {name: told[name] for name in _RECORDED if told.get(name)}
    arguments = replace(given, **recorded, pooling=given.pooling or told.get("pooling"))
    if given.family == "auto" and record.get("family"):
        arguments = replace(arguments, family=record["family"])
    if given.model_id:
        return arguments
    source: Mapping[str, Any] = record.get("source", {})
    name = source.get("model_id")
    if not name:
        raise InputError(
            f"{folder}: no conversion.json there says what it was made from; give --reference MODEL"
        )
    if not source.get("from_hub") and not Path(name).is_dir():
        raise InputError(
            f"{folder}: made from the local checkpoint {name}, which is not in the working "
            "folder; give its path with --reference"
        )
    return replace(arguments, model_id=name, revision=source.get("commit"))


def validate_folder(
    folder: Path,
    arguments: ConversionArguments,
    *,
    texts: Sequence[str] | None,
    progress: bool,
) -> ValidationReport:
    """Run every distinct graph of a folder beside the reference.

    Args:
        folder: Any folder with ``.onnx`` files.
        arguments: Name the reference.
        texts: The texts to run; None for those that ship.
        progress: Whether to draw progress bars.

    Raises:
        InputError: If the folder has no graphs, the reference cannot be used, or a graph has
            nothing in common with it.
        ConversionError: If the reference or a graph cannot be run.
    """
    graphs = folder_graphs(folder)

    from onnx_configs import choose_family
    from retort.stages.resolve import resolve
    from retort.stages.validate import load_reference, validate

    checkpoint = resolve(arguments, progress=progress)
    family = choose_family(checkpoint, arguments)
    reference = load_reference(family, checkpoint, arguments)
    report = validate(
        {g.name: Artifact(g.path, family.name, precision=g.precision) for g in graphs},
        family,
        reference,
        vocabulary=family.vocabulary(checkpoint),
        progress=progress,
        texts=texts,
        found=True,
    )
    rows = zip(report.files, graphs, strict=True)
    return replace(report, files=tuple(replace(row, bytes=g.bytes) for row, g in rows))


def require_fidelity(report: ValidationReport, least: float) -> None:
    """Refuse a report in which a file's mean fidelity is below what is asked for.

    Raises:
        FidelityError: If there is one; it names them all.
    """
    missing = [row for row in report.files if not row.fidelity_mean >= least]
    if missing:
        told = ", ".join(f"{row.file} has {row.fidelity_mean:.4f}" for row in missing)
        raise FidelityError(f"{report.fidelity_unit} of at least {least:g} asked for: {told}")
