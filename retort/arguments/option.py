"""How one option is declared: its help, and settings of ``argparse``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any


class OnOff(argparse.Action):
    """An option that is unset by default: ``--name`` turns it on, ``--no_name`` off."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store True, False, or the value that was written."""
        off = (option_string or "").startswith("--no")
        setattr(namespace, self.dest, not values if off else values)


def option(help_text: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return field metadata as ``HfArgumentParser`` reads it, with settings of ``argparse``."""
    return {"help": help_text.replace("%", "%%"), **(settings or {})}
