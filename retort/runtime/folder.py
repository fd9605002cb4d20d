"""The converted folder on disk: its JSON files and its graphs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.errors import InputError

DEFAULT_GRAPHS = ("onnx/model.onnx", "model.onnx")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: The file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): write it again") from error


@dataclass(frozen=True)
class Folder:
    """A folder that a conversion wrote.

    Attributes:
        path: Where it lies.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Folder:
        """Return the folder at ``path``.

        Raises:
            InputError: There is no folder of that name.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: give the one that a conversion wrote")
        return cls(folder)

    def mapping(self, *names: str) -> dict[str, Any]:
        """Return the JSON object in the first of these files that exists, or an empty one.

        Raises:
            InputError: The file is not JSON, or holds something other than an object.
        """
        for name in names:
            path = self.path / name
            if path.is_file():
                content = read_json(path)
                if not isinstance(content, dict):
                    raise InputError(f"{path} must hold a JSON object, not a {_kind(content)}")
                return content
        return {}

    def graph_path(self, file_name: str | None = None) -> Path:
        """Return the path of one graph of the folder.

        Args:
            file_name: A path inside the folder, or a bare name, which is looked for in the folder
                and then in ``onnx/``. None: ``onnx/model.onnx``, else ``model.onnx``, else the
                only graph that there is.

        Raises:
            InputError: There is no such graph, or no graph that is the obvious one.
        """
        wanted = (file_name, f"onnx/{file_name}") if file_name else DEFAULT_GRAPHS
        found = [self.path / name for name in wanted if (self.path / name).is_file()]
        if found:
            return found[0]
        graphs = sorted([*self.path.glob("*.onnx"), *self.path.glob("onnx/*.onnx")])
        if not graphs:
            raise InputError(f"{self.path} holds no .onnx file: convert a checkpoint into it")
        if file_name is None and len(graphs) == 1:
            return graphs[0]
        names = _listed(graph.relative_to(self.path).as_posix() for graph in graphs)
        missing = file_name or "onnx/model.onnx"
        raise InputError(f"{self.path} has no {missing}: give file_name, one of {names}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _kind(content: object) -> str:
    return type(content).__name__
