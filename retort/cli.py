"""The ``retort`` command: one verb for each thing that is done with checkpoints and folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retort import __version__
from retort.command import run_command
from retort.commands.bench import BENCH_OPTIONS, bench
from retort.commands.encode import ENCODE_OPTIONS, encode
from retort.commands.inspect import INSPECT_OPTIONS, inspect
from retort.commands.merge import MERGE_OPTIONS, merge
from retort.commands.optimize import OPTIMIZE_OPTIONS, optimize
from retort.commands.push import PUSH_OPTIONS, push
from retort.commands.quantize import QUANTIZE_OPTIONS, quantize
from retort.commands.validate import VALIDATE_OPTIONS, validate
from retort.one_line_parser import OneLineParser
from retort.talk import set_up_logging


@dataclass(frozen=True)
class Verb:
    """One thing that the command does.

    Attributes:
        run: Does it, and yields the lines for stdout; its docstring's first line is the help.
        options: The settings of ``add_argument``, by the option's names.
    """

    run: Callable[[argparse.Namespace], Iterable[str]]
    options: Mapping[str, Mapping[str, Any]]


VERBS: Mapping[str, Verb] = {
    "encode": Verb(encode, ENCODE_OPTIONS),
    "inspect": Verb(inspect, INSPECT_OPTIONS),
    "optimize": Verb(optimize, OPTIMIZE_OPTIONS),
    "quantize": Verb(quantize, QUANTIZE_OPTIONS),
    "validate": Verb(validate, VALIDATE_OPTIONS),
    "bench": Verb(bench, BENCH_OPTIONS),
    "merge": Verb(merge, MERGE_OPTIONS),
    "push": Verb(push, PUSH_OPTIONS),
}


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
    verb: Verb = options.verb
    for line in verb.run(options):
        print(line)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="retort", description="Convert checkpoints, and use the results.")
    parser.add_argument("--version", action="version", version=f"retort {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verbs.add_parser("convert", help="convert a checkpoint: the options of convert.py")
    for name, verb in VERBS.items():
        summary = (verb.run.__doc__ or "").splitlines()[0]
        command = verbs.add_parser(name, help=summary, description=summary)
        command.set_defaults(verb=verb)
        for flags, settings in verb.options.items():
            command.add_argument(*flags.split(), **settings)
        command.add_argument("--verbose", action="store_true", help="show tracebacks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
