"""Reading a command line into ``ConversionArguments``, without importing torch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from retort import __version__
from retort.arguments import GROUPS, ConversionArguments
from retort.errors import InputError


def parse_arguments(
    argv: Sequence[str] | None = None, program: str = "convert.py"
) -> ConversionArguments:
    """Parse a command line; usage errors leave the process with exit code 2.

    Args:
        argv: The arguments after the program's name; ``sys.argv`` if None.
        program: The name that messages begin with.
    """
    parser = _parser(program)
    *parsed, unknown = parser.parse_args_into_dataclasses(
        list(sys.argv[1:] if argv is None else argv), return_remaining_strings=True
    )
    if unknown:
        parser.error(f"unknown argument: {' '.join(unknown)}")
    values = {item.name: getattr(group, item.name) for group in parsed for item in fields(group)}
    try:
        arguments = ConversionArguments(**values)
    except InputError as error:
        parser.error(str(error))
    return arguments


def _parser(program: str) -> Any:
    # transformers' package imports torch; its parser module alone does not.
    module = _module_alone("transformers", "hf_argparser.py")

    class OneLineParser(module.HfArgumentParser):  # type: ignore[name-defined]
        def error(self, message: str) -> None:
            self.exit(2, f"{program}: error: {message} (see {program} --help)\n")

    parser = OneLineParser(
        list(GROUPS),
        prog=program,
        allow_abbrev=False,
        description="Convert a retrieval or NER checkpoint to an ONNX folder, and measure it.",
        epilog="Exit codes: 0 done, 1 a conversion failed, 2 wrong usage or input, 3 the result "
        "misses the fidelity asked for, 130 interrupted. Results go to stdout, talk to stderr.",
    )
    parser.add_argument("--version", action="version", version=f"retort {__version__}")
    return parser


def _module_alone(package: str, file_name: str) -> ModuleType:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InputError(f"{package} is not installed; run pip install -r requirements.txt")
    path = Path(found.origin).parent / file_name
    spec = importlib.util.spec_from_file_location(f"_{path.stem}_alone", path)
    if spec is None or spec.loader is None:
        raise InputError(f"cannot load {path}; reinstall {package}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
