"""Finished folders, and a machine that uploads them to a Hub of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_machine import OTHER_TOKEN, TOKEN
from hub_server import HubServer, running_hub
from hub_uploads import SIGNATURE, Uploads
from huggingface_hub import constants

import retort
from retort import cli
from retort.artifact import graph_sha256
from retort.card.facts import MODEL
from retort.json_files import write_json

ROOT = Path(retort.__file__).parent.parent
GRAPH = b"a graph, to whoever does not look inside"
CARD = f"---\nlicense: mit\n---\n\n# A model\r\n\nRun `{MODEL}`; {MODEL} is it.\n"


@dataclass(frozen=True)
class Pushed:
    """What a command ended with."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line that tells what went wrong."""
        line = self.stderr.splitlines()[-1]
        assert line.startswith("error: "), self.stderr
        assert "Traceback" not in self.stderr
        assert line.isprintable()
        return line


@dataclass(frozen=True)
class PublishMachine:
    """A user's machine: a home of its own, and the Hub it knows, with the account ``org``."""

    hub: HubServer
    uploads: Uploads
    home: Path
    capture: pytest.CaptureFixture[str]

    def push(
        self,
        folder: Path,
        *options: str,
        repo_id: str = "org/new",
        token: str | None = TOKEN,
        **environment: str,
    ) -> Pushed:
        """Run ``retort push``, as a process of its own if environment variables are given."""
        words = ["push", str(folder), repo_id, *(["--token", token] if token else []), *options]
        return self.start(words, **environment) if environment else self.run(cli.main, *words)

    def run(self, command: Callable[[list[str]], int], *words: str) -> Pushed:
        """Run a command in this process, which has the libraries already."""
        self.capture.readouterr()
        code = command(list(words))
        said = self.capture.readouterr()
        return _checked(Pushed(code, said.out, said.err))

    def start(self, words: Sequence[str], **environment: str) -> Pushed:
        """Run the command ``retort`` as a process, with changes to the environment."""
        ended = subprocess.run(
            [sys.executable, "-m", "retort.cli", *words],
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return _checked(Pushed(ended.returncode, ended.stdout, ended.stderr))

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment of commands, in which huggingface_hub knows this Hub only."""
        known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        home = str(self.home)
        here = {"HF_ENDPOINT": self.hub.address, "HF_HOME": home, "HOME": home}
        return known | here | {"PYTHONPATH": str(ROOT)} | changes

    def files(self, repo_id: str = "org/new") -> dict[str, bytes]:
        """Return the files of a repository's branch main."""
        repository = self.hub.repositories[repo_id]
        return repository.commits[repository.refs["main"]]

    def pushes(self, repo_id: str = "org/new") -> int:
        """Return how many commits came after the first, which the Hub itself makes."""
        return len(self.hub.repositories[repo_id].commits) - 1

    def sent(self) -> list[str]:
        """Return the paths of all large files that were sent to the end."""
        return [seen.path for seen in self.hub.requested("/store/", "PUT")]


@contextmanager
def publish_machine(home: Path, capture: pytest.CaptureFixture[str]) -> Iterator[PublishMachine]:
    """Give a machine whose Hub lets the owner of ``TOKEN`` write to the account ``org``."""
    with running_hub() as hub, pytest.MonkeyPatch.context() as settings:
        # What HF_ENDPOINT sets where huggingface_hub is imported for the first time.
        settings.setattr(constants, "ENDPOINT", hub.address)
        hub.accounts = {TOKEN: "writer", OTHER_TOKEN: "stranger"}
        yield PublishMachine(hub, Uploads(hub, members={"org": {"writer"}}), home, capture)


def _checked(ended: Pushed) -> Pushed:
    said = ended.stdout + ended.stderr
    assert not [hidden for hidden in (TOKEN, OTHER_TOKEN, SIGNATURE) if hidden in said], said
    return ended


def finished_folder(folder: Path, *, validated: bool = True, data: bytes = b"") -> Path:
    """Write a folder like those of a conversion, with one graph under two names.

    Args:
        folder: Where to write.
        validated: What its record says.
        data: External data of the graph; none if empty.
    """
    graph = folder / "onnx" / "model.onnx"
    files = {
        graph: GRAPH,
        folder / "config.json": b"{}",
        folder / "1_Pooling" / "config.json": b"{}",
        folder / "README.md": CARD.encode(),
        graph.with_name("model.onnx_data"): data,
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if content:
            path.write_bytes(content)
    (folder / "model.onnx").hardlink_to(graph)
    if data:
        (folder / "model.onnx_data").hardlink_to(graph.with_name("model.onnx_data"))
    record = {
        "files": {"onnx/model.onnx": {"steps": [{"sha256": graph_sha256(graph)}]}},
        "links": {"model.onnx": "onnx/model.onnx"},
        "validated": validated,
    }
    write_json(folder / "conversion.json", record)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by their names."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
