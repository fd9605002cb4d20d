"""What tells of a finished folder's graphs, to which one more graph is added."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.artifact import Artifact, Step
from retort.json_files import read_object, write_json
from retort.page import REPORT
from retort.record import file_record
from retort.talk import doing

logger = logging.getLogger(__name__)

RECORD = "conversion.json"
CARD = "README.md"
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

    @property
    def told(self) -> tuple[Path, ...]:
        """What tells of the folder's graphs: ``conversion.json``, the page and the card."""
        return (self.record, self.folder / REPORT, self.folder / CARD)

    def add(self, artifact: Artifact, folder: Path) -> None:
        """Write anew into ``folder`` what tells of the graphs, this one being in place.

        The graph is not in the fidelity report, so the folder as a whole is no longer validated.
        A card that is not Retort's stays as it is.

        Raises:
            InputError: If the record is not JSON.
        """
        from retort.card.card_update import updated_card
        from retort.card.measured import unmeasured_files
        from retort.page.report_page import write_page
        from retort.report_json import report_from_json

        record = self._with(artifact)
        write_json(folder / RECORD, record)
        if record["report"] and (self.folder / REPORT).is_file():
            with doing(f"reading the validation in {self.record}"):
                report = report_from_json(record["validation"])
            name = record["source"]["model_id"]
            write_page(folder / REPORT, name, report, unmeasured_files(record))
        path = self.folder / CARD
        if not path.is_file():
            return
        card = updated_card(path.read_text(encoding="utf-8"), record)
        if card is None:
            logger.warning("%s does not tell of %s: it is not Retort's card", path, self.name)
            return
        (folder / CARD).write_text(card, encoding="utf-8")

    def drop_page(self) -> None:
        """Remove the page where nothing that it shows is there any more.

        Raises:
            InputError: If the record is not JSON.
        """
        if read_object(self.record).get("report") is None:
            (self.folder / REPORT).unlink(missing_ok=True)

    def _with(self, artifact: Artifact) -> dict[str, Any]:
        record = read_object(self.record)
        files, links = dict(record.get("files", {})), dict(record.get("links", {}))
        links.pop(self.name, None)
        heir = _name_what_stays(self.name, files, links)
        files[self.name] = file_record(artifact)
        changed = {**record, "files": files, "links": links, "validated": False}
        changed["validation"] = _without(self.name, heir, record.get("validation"))
        changed["report"] = record.get("report") if changed["validation"] else None
        return changed


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


def _name_what_stays(name: str, files: dict[str, Any], links: dict[str, str]) -> str | None:
    """Leave the bytes of a file that is replaced to the first name that was linked to it.

    Returns:
        That name; None where there is none.
    """
    linked = [link for link, file in links.items() if file == name]
    if not linked:
        return None
    heir, *others = linked
    files[heir] = files[name]
    del links[heir]
    links.update(dict.fromkeys(others, heir))
    return heir


def _without(
    name: str, heir: str | None, report: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Return a report with a file under the name that its bytes have left; None if it is empty."""
    if report is None or name not in [row["file"] for row in report["files"]]:
        return report
    rows = [{**row, "file": heir} if row["file"] == name else row for row in report["files"]]
    if rows[0]["file"] is None:  # the others' speed is against it
        rows = [{**row, "speed": [None] * len(row["speed"])} for row in rows]
    kept = [row for row in rows if row["file"] is not None]
    return {**report, "files": kept} if kept else None
