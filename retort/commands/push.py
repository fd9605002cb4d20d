"""``retort push``: upload a finished folder to the Hub."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.talk import show_progress

PUSH_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "folder": {"metavar": "FOLDER", "type": Path, "help": "a converted folder"},
    "repo_id": {
        "metavar": "REPO",
        "help": "a repository of the Hub, account/name; it is created if need be",
    },
    "--private": {"action": "store_true", "help": "create the repository as private"},
    "--token": {
        "help": "access token of the Hub, with write permission; "
        "unset takes HF_TOKEN or the stored login"
    },
    "--push_unvalidated": {
        "action": "store_true",
        "help": "upload even what --skip_validation left unmeasured",
    },
}


def push(options: argparse.Namespace) -> Iterator[str]:
    """Upload a finished folder to the Hub, in one commit, and print its address.

    Raises:
        InputError: If the folder, the repository or the token cannot be used.
        ConversionError: If the network or the Hub keeps failing.
    """
    from retort.stages.publish import publish

    yield publish(
        options.folder,
        options.repo_id,
        private=options.private,
        token=options.token,
        unvalidated=options.push_unvalidated,
        progress=show_progress(quiet=False),
    )
