"""A graph file that any tool may have made, as the stages take it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from retort.artifact import Artifact, Step, joint_sha256
from retort.errors import InputError
from retort.graphs.external_data import write_merged
from retort.graphs.found_graph import external_data, quantized_by, read_whole_outline
from retort.record_update import place_of
from retort.runtime.folder import Folder

LEFT_BY_TOOLS = frozenset({"onnx.infer"})  # ONNX Runtime's quantizer marks inferred graphs so


@dataclass(frozen=True)
class FoundFile:
    """A graph that was found, not made, and what its header says.

    Attributes:
        path: The ``.onnx`` file.
        metadata: Its ``metadata_props``.
        external_data: The names of the files beside it that hold its tensors.
        quantized_by: What shows that it has less than 32 bits; empty: nothing.
    """

    path: Path
    metadata: Mapping[str, str]
    external_data: tuple[str, ...]
    quantized_by: str

    @property
    def files(self) -> list[Path]:
        """The ``.onnx`` file and its external data, under whatever names."""
        return [self.path, *(self.path.parent / name for name in self.external_data)]

    @property
    def bytes(self) -> int:
        """Its size, external data included."""
        return sum(file.stat().st_size for file in self.files)

    def artifact(self, folder: Path) -> Artifact:
        """Return it as the stages take graphs, with the steps that its folder's record tells.

        Args:
            folder: A folder to make for a copy, where the stages would not read the external data:
                they look for one file of one name, and onnx follows no links, hard ones included.
        """
        path = self.path if self._is_plain() else self._copied(folder)
        return Artifact(path, self.metadata.get("family", ""), self.steps())

    def steps(self) -> tuple[Step, ...]:
        """Return the steps that its folder's record tells, or that it was found."""
        place = place_of(self.path)
        steps = place.steps() if place else ()
        if steps:
            return steps
        digest = joint_sha256(self.files)
        return (Step("found", {"file": self.path.name}, 0.0, self.bytes, digest),)

    def _is_plain(self) -> bool:
        _, *data = self.files
        links = any(file.is_symlink() or file.stat().st_nlink > 1 for file in data)
        return not links and set(self.external_data) <= {f"{self.path.name}_data"}

    def _copied(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / self.path.name
        write_merged(read_whole_outline(self.path), self.path.parent, copy)
        return copy

    def refuse_quantized(self) -> None:
        """Refuse a graph of 8 or 16 bits, from which nothing good can be made.

        Raises:
            InputError: If it is one.
        """
        if self.quantized_by:
            raise InputError(
                f"{self.path}: already quantized (it has {self.quantized_by}); give the fp32 file "
                "that it was made from"
            )

    def refuse_as_output(self, output: Path) -> None:
        """Refuse an output that would replace this graph or its external data.

        Raises:
            InputError: If it would.
        """
        own = {_real(self.path.parent) / name for name in (self.path.name, *self.external_data)}
        place = _real(output.parent)
        if own & {place / output.name, place / f"{output.name}_data"}:
            raise InputError(f"{output} is what is read; choose another --output")

    def is_at(self, output: Path) -> bool:
        """Tell whether a path is this graph's own."""
        own = _real(self.path.parent) / self.path.name
        return own == _real(output.parent) / output.name


def graph_at(path: Path) -> Path:
    """Return the path itself, or of a folder the graph that a runtime opens.

    Raises:
        InputError: If the folder has no graph, or none that is the obvious one.
    """
    return Folder(path).graph_path() if path.is_dir() else path


def find_file(path: Path) -> FoundFile:
    """Return the graph in a file.

    Raises:
        InputError: If there is none, it is not ONNX, or its external data is not whole.
    """
    outline = read_whole_outline(path)
    metadata = {entry.key: entry.value for entry in outline.metadata_props}
    for key in LEFT_BY_TOOLS:
        metadata.pop(key, None)
    data = tuple(name for name in external_data(outline) if name != path.name)
    return FoundFile(path, metadata, data, quantized_by(outline))


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))
