"""A user's machine with a Hub of its own, for tests of what users see of the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint_bytes import BERT
from hub_server import HubServer, Repository, running_hub

CHILD = Path(__file__).with_name("resolve_child.py")
TOKEN = "hf_aSecretThatNobodyMaySee"
OTHER_TOKEN = "hf_anotherSecret"


@dataclass(frozen=True)
class Outcome:
    """What came of resolving a model in a process of its own."""

    code: int
    told: dict[str, Any]
    stderr: str

    @property
    def error(self) -> str:
        """The error's message, which must be one line."""
        assert self.told["error"].isprintable()
        return str(self.told["error"])


@dataclass(frozen=True)
class Machine:
    """A user's machine: a home of its own, and the Hub it knows."""

    hub: HubServer
    home: Path

    def resolve(self, model_id: str = "org/model", **given: Any) -> Outcome:
        """Resolve a model; names in capitals are environment variables."""
        done = self.run(model_id, stderr=subprocess.PIPE, **given)
        assert done.stdout, done.stderr
        assert TOKEN not in done.stdout + done.stderr, "an access token is never shown"
        assert OTHER_TOKEN not in done.stdout + done.stderr, "an access token is never shown"
        return Outcome(done.returncode, json.loads(done.stdout), done.stderr)

    def run(self, model_id: str, stderr: int, **given: Any) -> subprocess.CompletedProcess[str]:
        """Run the process that resolves a model, with stderr where it shall go."""
        environment = {name: given.pop(name) for name in list(given) if name.isupper()}
        known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        here = {"HF_ENDPOINT": self.hub.address, "HF_HOME": str(self.home), "HOME": str(self.home)}
        arguments = json.dumps({"model_id": model_id, **given})
        return subprocess.run(
            [sys.executable, CHILD, arguments],
            env=known | here | environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=120,
            check=False,
        )

    def publish(self, files: Mapping[str, bytes] = BERT, **settings: Any) -> str:
        """Put a model on the Hub as org/model, and return its commit."""
        self.hub.repositories["org/model"] = Repository(**settings)
        return self.hub.repositories["org/model"].commit(files)


@contextmanager
def machine_with_hub(home: Path) -> Iterator[Machine]:
    """Give a machine whose Hub knows two accounts, and no models."""
    with running_hub() as hub:
        hub.accounts = {TOKEN: "reader", OTHER_TOKEN: "stranger"}
        yield Machine(hub, home)
