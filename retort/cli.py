"""The ``retort`` command: one verb for each thing that is done with checkpoints and folders."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from retort import __version__
from retort.command import run_command
from retort.errors import InputError
from retort.runtime import EmbeddingModel, TokenClassificationModel, load
from retort.talk import set_up_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``retort VERB ...`` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["convert"]:
        import convert

        return convert.main(arguments[1:], program="retort convert")
    return run_command(lambda: _command(arguments))


def _command(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    set_up_logging(quiet=False, verbose=options.verbose)
    verb: Callable[[argparse.Namespace], None] = options.verb
    verb(options)


def encode(options: argparse.Namespace) -> None:
    """Run texts through a finished folder: one JSON line for each on stdout, or an .npz file.

    Raises:
        InputError: If the folder or the texts cannot be used.
    """
    model = load(options.folder, options.model_file, threads=options.threads)
    texts = [*options.text, *_lines(options.file)]
    if not texts:
        raise InputError("no texts; give --text or --file")
    if options.out:
        _save(model, texts, options)
        return
    for text, record in zip(texts, records(model, texts, options), strict=True):
        print(json.dumps({"text": text, **record}, ensure_ascii=False))


@singledispatch
def records(
    model: object, texts: Sequence[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return what a model says of each text, as plain JSON values."""
    raise InputError(f"retort encode cannot print the results of {type(model).__name__}")


@records.register
def _(
    model: EmbeddingModel, texts: Sequence[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    return [{"embedding": vector.tolist()} for vector in _vectors(model, texts, options)]


@records.register
def _(
    model: TokenClassificationModel, texts: Sequence[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    if options.prompt_name or options.pooling:
        raise InputError("--prompt_name and --pooling are for embeddings; drop them")
    found = model.entities_batch(texts, batch_size=options.batch_size)
    return [
        {
            "entities": [
                {
                    "label": entity.label,
                    "text": entity.text,
                    "start": entity.start,
                    "end": entity.end,
                    "score": round(float(entity.score), 4),
                }
                for entity in entities
            ]
        }
        for entities in found
    ]


def _vectors(model: EmbeddingModel, texts: Sequence[str], options: argparse.Namespace) -> Any:
    return model.encode(
        texts,
        batch_size=options.batch_size,
        prompt_name=options.prompt_name,
        pooling=options.pooling,
    )


def _save(model: object, texts: Sequence[str], options: argparse.Namespace) -> None:
    import numpy as np

    if not isinstance(model, EmbeddingModel):
        raise InputError("--out is for embeddings; without it the entities go to stdout as JSON")
    if not options.out.absolute().parent.is_dir():
        raise InputError(f"{options.out}: its folder does not exist; make it")
    vectors = _vectors(model, texts, options)
    try:
        with options.out.open("wb") as stream:
            np.savez(stream, embeddings=vectors)
    except OSError as error:
        raise InputError(f"{options.out}: cannot be written ({error.strerror})") from error
    print(options.out)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    # Not splitlines, which also splits at form feeds and Unicode's line separators.
    return lines.split("\n") if lines else []


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog="retort", description="Convert checkpoints, and use the results.")
    parser.add_argument("--version", action="version", version=f"retort {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verbs.add_parser("convert", help="convert a checkpoint: the options of convert.py")
    for name, (verb, options) in VERBS.items():
        summary = (verb.__doc__ or "").splitlines()[0]
        command = verbs.add_parser(name, help=summary, description=summary)
        command.set_defaults(verb=verb)
        for flags, settings in options.items():
            command.add_argument(*flags.split(), **settings)
        command.add_argument("--verbose", action="store_true", help="show tracebacks")
    return parser


VERBS: Mapping[str, tuple[Callable[[argparse.Namespace], None], Mapping[str, dict[str, Any]]]] = {
    "encode": (
        encode,
        {
            "folder": {"metavar": "FOLDER", "help": "a converted folder"},
            "--text": {"action": "append", "default": [], "help": "a text; repeatable"},
            "--file": {"type": Path, "help": "a UTF-8 file with one text on each line"},
            "--out": {"type": Path, "help": "write the embeddings, in order, to this .npz file"},
            "--model_file": {"help": "which graph, for example onnx/model_quantized.onnx"},
            "--batch_size": {"type": int, "default": 32, "help": "texts run together"},
            "--prompt_name": {"help": "a prompt of the checkpoint, for example query"},
            "--pooling": {"help": "pooling, for a folder that brings none"},
            "--threads": {"type": int, "help": "threads; all cores if unset"},
        },
    ),
}


if __name__ == "__main__":
    sys.exit(main())
