"""A command-line parser whose usage errors are one line."""

from __future__ import annotations

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """``argparse``'s parser, without the whole usage before an error."""

    def error(self, message: str) -> NoReturn:
        """Leave the process with exit code 2, after one line on stderr."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")
