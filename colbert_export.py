"""The names and commands of pylate-onnx-export, on Retort's own stages.

``export_model``, ``quantize_model`` and ``push_to_hub`` take and return what that tool documents,
and so do the commands ``pylate-onnx-export`` and ``colbert-quantize``. As functions they raise
``retort.errors.RetortError``: ``InputError``, ``ConversionError`` or ``FidelityError``; a graph
that is not there is a ``FileNotFoundError`` too.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retort import __version__
from retort.command import run_command
from retort.errors import InputError
from retort.json_files import read_object
from retort.memory import collect_rarely
from retort.one_line_parser import OneLineParser
from retort.talk import set_up_logging, show_progress

__all__ = ["__version__", "export_model", "push_to_hub", "quantize_model"]

logger = logging.getLogger("retort.colbert_export")

PRECISION = "QInt8"
GRAPH = "model.onnx"
QUANTIZED_GRAPH = "model_int8.onnx"
RECORD = "conversion.json"


class MissingGraphError(InputError, FileNotFoundError):
    """A folder without ``model.onnx``."""


def export_model(
    model_name: str,
    output_dir: str | Path | None = None,
    quantize: bool = False,
    verbose: bool = True,
    force: bool = False,
) -> Path:
    """Export a ColBERT checkpoint; a folder that has ``model.onnx`` is left as it is.

    Args:
        model_name: Hugging Face id (org/name) or local folder.
        output_dir: Where to write; ``./models/<name>`` if None.
        quantize: Whether to make ``model_int8.onnx`` as well, also in a folder that is there.
        verbose: Whether to log and draw progress bars; otherwise there are warnings only.
        force: Whether to replace an existing folder, which Retort must have made.

    Returns:
        The folder.

    Raises:
        InputError: If the checkpoint, or the folder, cannot be used.
        ConversionError: If a stage fails.
        FidelityError: If an fp32 file does not agree with the original model.
    """
    folder = Path("models", _short_name(model_name)) if output_dir is None else Path(output_dir)
    if (folder / GRAPH).is_file() and not force:
        with _talking(verbose):
            logger.info("%s exists and is left as it is; force replaces it", folder / GRAPH)
        if quantize and not (folder / QUANTIZED_GRAPH).is_file():
            quantize_model(folder, verbose)
        return folder
    _refuse_what_others_made(folder)

    from convert import convert
    from retort.arguments import ConversionArguments

    arguments = ConversionArguments(
        model_id=model_name,
        family="colbert",
        output_dir=str(folder),
        quantize=[PRECISION] if quantize else [],
        force=force,
        quiet=not verbose,
    )
    with _talking(verbose):
        convert(arguments)
    return folder


def quantize_model(model_dir: str | Path, verbose: bool = True) -> Path:
    """Make, or make again, ``model_int8.onnx`` beside a folder's ``model.onnx``.

    Args:
        model_dir: A folder that Retort or pylate-onnx-export made, or any with ``model.onnx``.
        verbose: Whether to log; otherwise there are warnings only.

    Returns:
        The path of ``model_int8.onnx``.

    Raises:
        InputError: If there is no fp32 ``model.onnx``; where it is missing, this is a
            ``FileNotFoundError`` too.
        ConversionError: If it cannot be quantized, or the result not be written.
    """
    graph = _graph_of(Path(model_dir))

    from retort.arguments import OptimizeArguments
    from retort.quantize_file import quantize_file
    from retort.stages.quantize import quantize_settings

    settings = quantize_settings(OptimizeArguments(), PRECISION)
    with _talking(verbose):
        return quantize_file(graph, settings, graph.with_name(QUANTIZED_GRAPH), force=True)


def push_to_hub(
    model_dir: str | Path, repo_id: str, private: bool = False, verbose: bool = True
) -> str:
    """Upload a folder to the Hub in one commit; the repository is created if need be.

    Args:
        model_dir: A folder that Retort or pylate-onnx-export made.
        repo_id: The repository (org/name).
        private: Whether a new repository is private.
        verbose: Whether to log and draw a progress bar; otherwise there are warnings only.

    Returns:
        The repository's URL.

    Raises:
        InputError: If the folder or the repository cannot be used; where ``model.onnx`` is
            missing, this is a ``FileNotFoundError`` too.
        ConversionError: If the network or the Hub fails.
    """
    folder = _graph_of(Path(model_dir)).parent

    from retort.stages.publish import publish

    with _talking(verbose):
        _warn_of_unmeasured_files(folder)
        return publish(
            folder,
            repo_id,
            private=private,
            token=None,
            unvalidated=True,
            progress=show_progress(quiet=not verbose),
        )


def export_main(argv: Sequence[str] | None = None) -> int:
    """Run ``pylate-onnx-export`` and return its exit code."""
    collect_rarely()
    return run_command(lambda: _export(_export_parser().parse_args(argv)))


def quantize_main(argv: Sequence[str] | None = None) -> int:
    """Run ``colbert-quantize`` and return its exit code."""
    collect_rarely()
    return run_command(lambda: _quantize(_quantize_parser().parse_args(argv)))


def _export(options: argparse.Namespace) -> None:
    set_up_logging(quiet=options.quiet, verbose=options.verbose)
    if options.push_to_hub:
        from retort.stages.publish import check_publication

        check_publication(options.push_to_hub, token=None)  # before the work, not after it
    verbose = not options.quiet
    folder = export_model(
        options.model, options.output_dir, options.quantize, verbose, options.force
    )
    print(folder)
    if options.push_to_hub:
        print(push_to_hub(folder, options.push_to_hub, options.private, verbose))


def _quantize(options: argparse.Namespace) -> None:
    set_up_logging(quiet=options.quiet, verbose=options.verbose)
    print(quantize_model(options.model_dir, verbose=not options.quiet))


def _export_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="pylate-onnx-export", description="Export a ColBERT checkpoint to an ONNX folder."
    )
    parser.add_argument("model", help="Hugging Face id (org/name) or local folder")
    parser.add_argument(
        "-o",
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="where to write; ./models/<name> if unset",
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "-q", "--quantize", action="store_true", help="make model_int8.onnx as well"
    )
    precision.add_argument(
        "--no-quantize", action="store_true", help="make no model_int8.onnx; the default"
    )
    parser.add_argument("-f", "--force", action="store_true", help="replace an existing export")
    parser.add_argument("--push-to-hub", metavar="REPO", help="upload the folder to org/name")
    parser.add_argument("--private", action="store_true", help="create that repository as private")
    return _with_common_options(parser)


def _quantize_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="colbert-quantize", description="Make model_int8.onnx beside a model.onnx."
    )
    parser.add_argument("model_dir", metavar="DIR", type=Path, help="a folder with model.onnx")
    return _with_common_options(parser)


def _with_common_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    parser.add_argument("--verbose", action="store_true", help="print a traceback with an error")
    version = f"{parser.prog} {__version__}"
    parser.add_argument("--version", action="version", version=version)
    return parser


def _short_name(model_name: str) -> str:
    # As shells do: of "org/name" the name, of "." the folder's own.
    return Path(os.path.abspath(model_name)).name  # noqa: PTH100 (drops ".." without the disk)


def _graph_of(folder: Path) -> Path:
    graph = folder / GRAPH
    if not graph.is_file():
        raise MissingGraphError(f"{graph}: no such file; export the model into {folder} first")
    return graph


def _refuse_what_others_made(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise InputError(
            f"{folder}: holds files that Retort did not make (an old pylate-onnx-export's, "
            "perhaps), which it does not replace; move the folder away, or choose another output "
            "folder (-o)"
        )


def _warn_of_unmeasured_files(folder: Path) -> None:
    if (folder / RECORD).is_file() and not read_object(folder / RECORD).get("validated"):
        logger.warning("%s has a graph that was never measured; it is uploaded too", folder)


@contextmanager
def _talking(verbose: bool) -> Iterator[None]:
    """Let Retort log to stderr, unless the program shows or mutes its log already; or hush it."""
    loggers = [logging.getLogger(name) for name in ("retort", "onnx_configs")]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    retort = loggers[0]
    shown = retort.hasHandlers() and retort.isEnabledFor(logging.INFO)
    if not verbose:
        for each in loggers:
            each.setLevel(max(each.getEffectiveLevel(), logging.WARNING))
    elif not shown and retort.level == logging.NOTSET:
        set_up_logging(quiet=False, verbose=False)
    try:
        yield
    finally:
        for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
            each.setLevel(level)


if __name__ == "__main__":
    sys.exit(export_main())
