"""The graphs of a folder that any tool may have made, each once."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.errors import InputError
from retort.json_files import optional_object
from retort.record_update import RECORD

PORTABLE = ("onnx/model.onnx", "model.onnx")


@dataclass(frozen=True)
class FolderGraph:
    """One graph of a folder.

    Attributes:
        name: Its name in the folder, such as ``onnx/model.onnx``.
        path: The file.
        precision: ``fp32``, the value of ``--quantize`` that made it, or what its operators show.
        bytes: Its size, external data included.
    """

    name: str
    path: Path
    precision: str
    bytes: int


def distinct_files(folder: Path) -> list[list[Path]]:
    """Return the ``.onnx`` files below a folder, hard and symbolic links to one file together.

    Raises:
        InputError: If there is none.
    """
    names: dict[tuple[int, int], list[Path]] = {}
    for graph in sorted(folder.rglob("*.onnx")):
        if graph.is_file():
            stat = graph.stat()
            names.setdefault((stat.st_dev, stat.st_ino), []).append(graph)
    if not names:
        raise InputError(f"{folder} holds no .onnx file; give a folder with one, or a file")
    return list(names.values())


def folder_graphs(folder: Path) -> tuple[FolderGraph, ...]:
    """Return a folder's graphs, the one that others are made from first.

    Raises:
        InputError: If there is no such folder or no graph in it, or a graph is not whole.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give one with .onnx files")
    record = folder_record(folder)
    files: Mapping[str, Any] = record.get("files", {})
    names = [_name(folder, paths, files) for paths in distinct_files(folder)]
    links: Mapping[str, str] = record.get("links", {})
    graphs = [
        _graph(folder, name, files) for name in names if not _is_copy(folder, name, links.get(name))
    ]
    order = list(files)
    return tuple(sorted(graphs, key=lambda graph: _place(graph, order)))


def folder_record(folder: Path) -> dict[str, Any]:
    """Return what ``conversion.json`` says, or nothing where another tool made the folder.

    Raises:
        InputError: If it is not JSON.
    """
    return optional_object(folder / RECORD)


def _name(folder: Path, paths: list[Path], recorded: Mapping[str, Any]) -> str:
    names = [path.relative_to(folder).as_posix() for path in paths]
    return min(names, key=lambda name: (name not in recorded, not name.startswith("onnx/")))


def _is_copy(folder: Path, name: str, original: str | None) -> bool:
    # Hard links become copies where a folder went through the Hub.
    path = folder / original if original else None
    return path is not None and path.is_file() and filecmp.cmp(folder / name, path, shallow=False)


def _graph(folder: Path, name: str, recorded: Mapping[str, Any]) -> FolderGraph:
    from retort.found_file import find_file
    from retort.graphs.found_graph import precision_of, read_graph

    found = find_file(folder / name)
    told = recorded.get(name, {}).get("precision")
    precision = told or precision_of(read_graph(found.path))
    return FolderGraph(name, found.path, precision, found.bytes)


def _place(graph: FolderGraph, order: list[str]) -> tuple[bool, int, bool, bool, str]:
    known = graph.name in order
    place = order.index(graph.name) if known else 0
    usual = graph.name in PORTABLE
    return not known, place, not usual, graph.precision != "fp32", graph.name
