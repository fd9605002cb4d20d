"""One graph that appears whole or not at all beside files that stay, such as in a finished folder.

A run builds in ``<target>.partial-<pid>`` and renames what is finished; see
``retort.output.output_folder`` for whole folders.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from retort.artifact import graph_files
from retort.errors import ConversionError, InputError, RetortError
from retort.output.exchange import clean_up, partial_path, sync, sync_tree
from retort.output.folder_lock import folder_lock
from retort.output.stop_signals import stop_signals_raise, stop_signals_wait
from retort.output.temporary_files import temporary_files_in
from retort.talk import DISK_ERRORS


@contextmanager
def output_file(target: Path, *, force: bool, beside: Sequence[Path] = ()) -> Iterator[Path]:
    """Build a graph beside its place; put it there only when the body ends without an error.

    What stands at the target is never written to, only replaced by a rename: another name of the
    same bytes (a hard link) keeps them. After an error, Ctrl-C, SIGTERM or SIGHUP all is as it
    was; what a killed process left is removed by the next run for the same target. A graph with
    external data is two files: where new data replace the old ones, the old graph is removed
    first, so that it never stands beside data that are not its own.

    Args:
        target: The ``.onnx`` file to make, in a folder that exists.
        force: Whether to replace an existing file.
        beside: Files that tell of the graph, which the body may write anew beside it, under their
            own names; the first is locked.

    Yields:
        The path to write the graph to; its folder is empty and may hold temporary files.

    Raises:
        InputError: The target may not be written, or another run is writing it.
        ConversionError: The disk is full, or writing is not allowed.
    """
    with ExitStack() as stack:
        stack.enter_context(stop_signals_raise())
        with stop_signals_wait(), _explaining(target):
            _refuse_existing(target, force)
            stack.enter_context(folder_lock(next(iter(beside), target)))
            stack.callback(_clean_up, target)
            clean_up(target)
            scratch = partial_path(target)
            scratch.mkdir()
        with temporary_files_in(scratch), _explaining(target, only=DISK_ERRORS):
            yield scratch / target.name
        with _explaining(target):
            for file in graph_files(scratch / target.name):
                # Somebody may have made one in the meantime; other graphs' data may lie there.
                _refuse_existing(target.with_name(file.name), force)
            _put_in_place(scratch / target.name, target, beside)


def _refuse_existing(target: Path, force: bool) -> None:
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder; make it, or choose another --output")
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file")
    if os.path.lexists(target) and not force:
        raise InputError(f"{target} exists; pass --force to replace it")


def _put_in_place(new: Path, target: Path, beside: Sequence[Path]) -> None:
    graph, *data = graph_files(new)
    sync_tree(new.parent)
    with stop_signals_wait():
        old_data = set(graph_files(target)[1:])
        if any(target.with_name(file.name).exists() for file in data):
            target.unlink(missing_ok=True)
        for file in data:
            file.rename(target.with_name(file.name))
        graph.rename(target)
        for file in old_data - {target.with_name(file.name) for file in data}:
            file.unlink()
        for told in beside:
            if (new.parent / told.name).exists():
                (new.parent / told.name).rename(told)
        sync(target.parent)


def _clean_up(target: Path) -> None:
    with stop_signals_wait():
        clean_up(target)


@contextmanager
def _explaining(target: Path, only: Container[int] | None = None) -> Iterator[None]:
    try:
        yield
    except RetortError:
        raise
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise ConversionError(
            f"could not write {target}: {reason}{where}; check the space and the permissions there"
        ) from error
