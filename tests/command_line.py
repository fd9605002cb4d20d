"""Run ``convert.py`` in tests, in this process or as one of its own, and see what it left."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import convert
from retort import cli
from retort.json_files import write_json

CONVERT = Path(convert.__file__)
STAGES = ("exporting", "optimizing", "quantizing", "validating")

# A runner may have had Ctrl-C ignored (nohup, a job in the background), which children inherit.
_WITH_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
# As users have it; a runner may have asked for output without buffers.
_ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
_DAC_OVERRIDE = 1 << 1  # root's right to write where permissions forbid it
_CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True)
class Ended:
    """What a command ended with."""

    code: object
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line that tells what went wrong; before it there may be only stages."""
        *before, line = self.stderr.splitlines()
        assert line.startswith(("error: ", "convert.py: error: ")), self.stderr
        assert all(said.startswith((*STAGES, "packaging ")) for said in before), self.stderr
        assert line.isprintable()
        return line


def convert_here(capture: pytest.CaptureFixture[str], *argv: str | Path) -> Ended:
    """Run the command line in this process, which has the heavy libraries already."""
    return run_here(capture, convert.main, *argv)


def run_here(
    capture: pytest.CaptureFixture[str], main: Callable[[Sequence[str]], int], *argv: str | Path
) -> Ended:
    """Run a command in this process."""
    capture.readouterr()
    try:
        code: object = main([str(word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    said = capture.readouterr()
    return Ended(code, said.out, said.err)


def retort_refused(capture: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """Run a verb of ``retort`` in vain, and return the one line that says why."""
    ended = run_here(capture, cli.main, *argv)
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended
    assert ended.stderr.startswith("error: ")
    return ended.stderr


def refused(
    capture: pytest.CaptureFixture[str], model: Path | str, out: Path, *options: str, code: int = 2
) -> str:
    """Convert in vain, and return the one line that says why; no byte may have changed.

    Looked at are the checkpoint with the times of its files, and all there is beside ``out``.
    """
    places = [place for place in (Path(model), out / "model") if place.is_dir()]
    before = contents(out.parent), [listing(place) for place in places]
    words = ("--model_id", model, "--output_parent_dir", out, "--quiet", *options)
    ended = convert_here(capture, *words)
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (code, "", 1), ended
    assert (contents(out.parent), [listing(place) for place in places]) == before
    return ended.error


def earlier_result(parent: Path) -> Path:
    """Write what an earlier run might have left as ``parent / "model"``, and return ``parent``."""
    write_json(parent / "model" / "conversion.json", {"family": "embedding"})
    write_json(parent / "model" / "onnx" / "model.onnx", "the old graph")
    return parent


def start(*argv: str | Path) -> subprocess.Popen[str]:
    """Start the command line as a process, which takes Ctrl-C like one in a terminal."""
    command = [sys.executable, "-c", _WITH_CTRL_C, str(CONVERT), *map(str, argv)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=_ENVIRONMENT)


def run(*argv: str | Path, stdout: int = subprocess.PIPE) -> Ended:
    """Run the command line as a process to its end, which prints to a pipe or a descriptor."""
    ended = subprocess.run(
        [sys.executable, str(CONVERT), *map(str, argv)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
        env=_ENVIRONMENT,
    )
    return Ended(ended.returncode, ended.stdout or "", ended.stderr)


def contents(folder: Path) -> dict[str, str]:
    """Return everything below a folder: the SHA-256 of files, and the targets of links."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*"))}


def listing(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return a folder and everything below it: content, permissions, time of the last change."""
    paths = [folder, *sorted(folder.rglob("*"))]
    stats = {path: path.lstat() for path in paths}
    return {
        str(path.relative_to(folder)): (_content(path), stat.st_mode, stat.st_mtime_ns)
        for path, stat in stats.items()
    }


@contextmanager
def permissions_count() -> Iterator[None]:
    """Let permissions hold for root as well while inside: nobody writes where they forbid it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, low and high words
    assert libc.capget(header, rights) == 0
    effective = rights[0]
    rights[0] = effective & ~_DAC_OVERRIDE
    assert libc.capset(header, rights) == 0
    try:
        yield
    finally:
        rights[0] = effective
        assert libc.capset(header, rights) == 0


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
