"""``conversion.json`` of a finished folder, to which one more graph is added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.artifact import Artifact, Step
from retort.json_files import read_object, write_json
from retort.record import file_record

RECORD = "conversion.json"
GRAPH_FOLDER = "onnx"


@dataclass(frozen=True)
class Place:
    """Where in a folder that Retort made a graph lies, or will lie.

    Attributes:
        folder: The folder with ``conversion.json``.
        name: The graph's name in it, such as ``onnx/model.onnx``.
    """

    folder: Path
    name: str

    @property
    def record(self) -> Path:
        """The folder's ``conversion.json``."""
        return self.folder / RECORD

    def steps(self) -> tuple[Step, ...]:
        """Return the steps that made the graph, as far as they are recorded.

        Raises:
            InputError: If the record is not JSON.
        """
        return tuple(Step(**step) for step in self._entry().get("steps", ()))

    def precision(self) -> str | None:
        """Return the graph's precision, None where it is not recorded.

        Raises:
            InputError: If the record is not JSON.
        """
        return self._entry().get("precision")

    def _entry(self) -> Mapping[str, Any]:
        record = read_object(self.record)
        file = record.get("links", {}).get(self.name, self.name)
        entry: Mapping[str, Any] = record.get("files", {}).get(file, {})
        return entry

    def add(self, artifact: Artifact, target: Path) -> None:
        """Write the record with this graph in it to ``target``.

        The graph is not in the fidelity report, so the folder as a whole is no longer validated.

        Raises:
            InputError: If the record is not JSON.
        """
        record = read_object(self.record)
        files, links = dict(record.get("files", {})), dict(record.get("links", {}))
        links.pop(self.name, None)
        _name_what_stays(self.name, files, links)
        files[self.name] = file_record(artifact)
        changed = {**record, "files": files, "links": links, "validated": False}
        changed["validation"] = _without(self.name, record.get("validation"))
        write_json(target, changed)


def place_of(graph: Path) -> Place | None:
    """Return a graph's place in the folder that Retort made, or None if it lies in no such one."""
    path = graph.absolute()
    folders = [path.parent]
    if path.parent.name == GRAPH_FOLDER:
        folders.append(path.parent.parent)
    for folder in folders:
        if (folder / RECORD).is_file():
            return Place(folder, path.relative_to(folder).as_posix())
    return None


def _name_what_stays(name: str, files: dict[str, Any], links: dict[str, str]) -> None:
    # A file that is replaced leaves its bytes to the names that were linked to it.
    linked = [link for link, file in links.items() if file == name]
    if linked:
        heir, *others = linked
        files[heir] = files[name]
        del links[heir]
        links.update(dict.fromkeys(others, heir))


def _without(name: str, report: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if report is None:
        return None
    return {**report, "files": [row for row in report["files"] if row["file"] != name]}
