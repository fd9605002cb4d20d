"""``retort validate``: any tool's folder, measured against the PyTorch model it was made from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from retort.arguments import ConversionArguments, ExportArguments, Pooling, SourceArguments
from retort.errors import InputError
from retort.talk import show_progress
from retort.text_files import TEXT_FIELD, read_texts

if TYPE_CHECKING:
    from retort.report import ValidationReport

PAGE_ENDINGS = (".html", ".htm")
_HELP = {
    field.name: field.metadata["help"]
    for group in (SourceArguments, ExportArguments)
    for field in fields(group)
}

VALIDATE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "folder": {"metavar": "FOLDER", "type": Path, "help": "a folder with .onnx files"},
    "--reference": {
        "metavar": "MODEL",
        "help": "the checkpoint it was made from, a Hub id or a local folder; unset takes the "
        "source in conversion.json",
    },
    "--texts": {
        "type": Path,
        "metavar": "FILE",
        "help": "the texts to run: one on each line, .jsonl, or a folder of .txt files; unset "
        "takes those that ship",
    },
    "--text_field": {
        "default": TEXT_FIELD,
        "metavar": "NAME",
        "help": f"the field of a .jsonl file that holds the text; {TEXT_FIELD} if unset",
    },
    "--min_fidelity": {
        "type": float,
        "metavar": "X",
        "help": "end with exit code 3 if a file's mean fidelity is below this",
    },
    "--html": {"type": Path, "metavar": "FILE", "help": "write the report as a page with plots"},
    "--json": {"action": "store_true", "help": "print the report as one JSON line"},
    "--family": {"default": "auto", "help": _HELP["family"]},
    "--pooling": {"choices": get_args(Pooling), "help": _HELP["pooling"]},
    "--revision": {"help": _HELP["revision"]},
    "--token": {"help": _HELP["token"]},
    "--cache_dir": {"help": _HELP["cache_dir"]},
    "--trust_remote_code": {"action": "store_true", "help": _HELP["trust_remote_code"]},
    "--allow_pickle": {"action": "store_true", "help": _HELP["allow_pickle"]},
}


def validate(options: argparse.Namespace) -> Iterator[str]:
    """Measure the graphs of any tool's folder against the PyTorch model, and print the report.

    Raises:
        InputError: If the folder, the reference, the texts or an option cannot be used.
        ConversionError: If the reference or a graph cannot be run.
        FidelityError: If a file has less than --min_fidelity, after the report is printed.
    """
    from retort.validate_folder import reference_arguments, require_fidelity, validate_folder

    _check(options)
    arguments = reference_arguments(options.folder, _given(options))
    report = validate_folder(
        options.folder, arguments, texts=_texts(options), progress=show_progress(quiet=False)
    )
    if options.html:
        _write_page(options.html, options.folder, report)
    yield json.dumps(report.as_json(), ensure_ascii=False) if options.json else report.table()
    if options.min_fidelity is not None:
        require_fidelity(report, options.min_fidelity)


def _given(options: argparse.Namespace) -> ConversionArguments:
    return ConversionArguments(
        model_id=options.reference or "",
        revision=options.revision,
        token=options.token,
        cache_dir=options.cache_dir,
        trust_remote_code=options.trust_remote_code,
        allow_pickle=options.allow_pickle,
        family=options.family,
        pooling=options.pooling,
    )


def _check(options: argparse.Namespace) -> None:
    """Refuse, before any work, what would fail at its end."""
    page: Path | None = options.html
    if page and (page.suffix not in PAGE_ENDINGS or not page.parent.is_dir() or page.is_dir()):
        raise InputError(f"--html {page}: give a file name with .html, in a folder that exists")
    least: float | None = options.min_fidelity
    if least is not None and not 0 <= least <= 1:
        raise InputError(f"--min_fidelity {least:g}: give a number from 0 to 1, which is perfect")
    if options.revision and not options.reference:
        raise InputError("--revision is of --reference; give that too")


def _texts(options: argparse.Namespace) -> tuple[str, ...] | None:
    return read_texts(options.texts, options.text_field) if options.texts else None


def _write_page(page: Path, folder: Path, report: ValidationReport) -> None:
    from retort.output.output_file import output_file
    from retort.page.report_page import write_page

    with output_file(page, force=True) as path:
        write_page(path, folder.resolve().name, report)
