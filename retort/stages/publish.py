"""Publish: a finished folder becomes a repository of the Hub, if it was measured."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.artifact import graph_bytes, graph_files, joint_sha256
from retort.errors import InputError, RetortError
from retort.graphs.onnx_file import header_elsewhere
from retort.json_files import read_object

if TYPE_CHECKING:
    from retort.arguments import ConversionArguments

logger = logging.getLogger(__name__)

RECORD = "conversion.json"
CARD = "README.md"
_UNVALIDATED = "--push_unvalidated uploads it all the same"


def check_publish_arguments(arguments: ConversionArguments) -> None:
    """Refuse, before any work, what could not be published at its end; asks no network.

    Raises:
        InputError: If an option lacks another, or what ``check_publication`` raises.
    """
    if arguments.push_to_hub is None:
        for option in ("private", "push_unvalidated"):
            if getattr(arguments, option):
                raise InputError(f"--{option} says how --push_to_hub works; give that too")
        return
    check_publication(arguments.push_to_hub, arguments.token)
    if arguments.skip_validation and not arguments.push_unvalidated:
        raise InputError(
            f"--push_to_hub {arguments.push_to_hub}: --skip_validation leaves the files "
            f"unmeasured; drop it, or {_UNVALIDATED}"
        )


def check_publication(repo_id: str, token: str | None) -> None:
    """Check what can be known of an upload without asking the Hub.

    Raises:
        InputError: If the id is none, there is no token, or the network is switched off.
    """
    from retort.source import hub
    from retort.source.hub_errors import endpoint, has_token

    if not hub.is_hub_id(repo_id) or "/" not in repo_id:
        raise InputError(
            f"{repo_id!r}: no repository's id; give it as account/name, in letters, digits, "
            "'-', '_' and '.'"
        )
    hub.check_token(token)
    if not has_token(token):
        raise InputError(
            f"{repo_id}: uploading needs an access token with write permission; make one at "
            f"{endpoint()}/settings/tokens and pass it with --token or HF_TOKEN"
        )
    if hub.is_offline():
        raise InputError(f"{repo_id}: HF_HUB_OFFLINE is set, and uploading needs the network")


def publish(
    folder: Path,
    repo_id: str,
    *,
    private: bool,
    token: str | None,
    unvalidated: bool,
    progress: bool,
) -> str:
    """Upload a finished folder in one commit, and return the repository's address.

    Hidden files stay here. README.md gets the repository's id where it has the placeholder for
    the folder, and a folder without one gets a plain card; in the folder nothing is changed.

    Args:
        folder: What a conversion wrote, or any folder with graphs.
        repo_id: The repository, ``account/name``; it is created if it is not there.
        private: Whether it must be private.
        token: The access token; None for what huggingface_hub finds itself.
        unvalidated: Whether to upload what no validation has measured.
        progress: Whether to show progress bars, if stderr is a terminal.

    Raises:
        InputError: If the folder, the id or the token cannot be used.
        ConversionError: If the network or the Hub keeps failing; the message says how to go on.
    """
    check_publication(repo_id, token)
    check_folder(folder, unvalidated=unvalidated)

    from retort.output.upload import upload
    from retort.output.upload_errors import Destination
    from retort.source.hub_errors import endpoint

    found = _files(folder)
    files: dict[str, Path | bytes] = {**found, CARD: _card(found, repo_id)}
    logger.info("uploading %d files to %s", len(files), repo_id)
    options = ["--private"] * private + ["--push_unvalidated"] * unvalidated
    again = shlex.join(["retort", "push", str(folder), repo_id, *options])
    try:
        upload(files, Destination(repo_id, private, token), progress=progress)
    except RetortError as error:
        raise type(error)(f"{error}; {folder} is complete, go on with: {again}") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{folder} is complete, go on with: {again}") from stop
    return f"{endpoint()}/{repo_id}"


def check_folder(folder: Path, *, unvalidated: bool) -> None:
    """Check that a folder's graphs are those that were measured.

    Raises:
        InputError: If there is no graph, one has changed since, or none was measured and
            ``unvalidated`` is not set.
    """
    graphs = {name for name in _files(folder) if name.endswith(".onnx")}
    if not graphs or ".partial-" in folder.absolute().name:
        raise InputError(f"{folder}: no finished folder with .onnx files; give one")
    path = folder / RECORD
    if not path.is_file():
        logger.warning("%s has no %s: nothing in it was measured by Retort", folder, RECORD)
        return
    record = read_object(path)
    if record.get("validated") is not True and not unvalidated:
        raise InputError(
            f"{path} does not say that all was validated: convert again, or {_UNVALIDATED}"
        )
    page = record.get("report")
    if page and not (folder / page).is_file():
        logger.warning("%s is gone, though %s and the card name it", folder / page, RECORD)
    recorded = _recorded_graphs(path, record)
    for graph in recorded:
        _check_bytes(folder, graph)
    for name in sorted(graphs - {graph.name for graph in recorded}):
        logger.warning("%s is not in %s: it was never measured", folder / name, RECORD)


@dataclass(frozen=True)
class _RecordedGraph:
    """A graph's name in the folder, the name it was recorded by, and the SHA-256 of its bytes."""

    name: str
    source: str
    sha256: str


def _recorded_graphs(path: Path, record: Mapping[str, Any]) -> list[_RecordedGraph]:
    try:
        sums = {name: told["steps"][-1]["sha256"] for name, told in record["files"].items()}
        sources = {**{name: name for name in sums}, **record["links"]}
        return [_RecordedGraph(name, source, sums[source]) for name, source in sources.items()]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: does not tell what was measured; convert again") from error


def _check_bytes(folder: Path, graph: _RecordedGraph) -> None:
    path = folder / graph.name
    if not path.is_file():
        logger.warning("%s is gone, though %s and perhaps the card name it", path, RECORD)
        return
    source = folder / graph.source
    # A second name finds its external data under the first one, beside itself or beside that.
    data = graph_files(path.with_name(source.name))[1:]
    if not data and len(graph_files(source)) > 1 and source.is_file():
        same = path.read_bytes() == header_elsewhere(source, path)
    else:
        same = joint_sha256([path, *data]) == graph.sha256
    if not same:
        raise InputError(f"{path} has changed since it was measured; convert the checkpoint again")


def _files(folder: Path) -> dict[str, Path]:
    """Return what is uploaded, by its name: no hidden files, nor what a run leaves on its way."""
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*"))}
    return {
        name.as_posix(): path
        for name, path in paths.items()
        if path.is_file() and not any(map(_stays_here, name.parts))
    }


def _stays_here(part: str) -> bool:
    leftover = ".partial-" in part or part.endswith((".lock", ".incomplete", ".tmp", ".pyc"))
    return part.startswith(".") or leftover


def _card(files: Mapping[str, Path], repo_id: str) -> bytes:
    from retort.card.model_card import for_repository, plain_card

    path = files.get(CARD)
    if path is None:
        names = [name for name in files if name.endswith(".onnx")]
        graphs = {name: graph_bytes(files[name]) for name in names}
        return plain_card(repo_id.rpartition("/")[2], graphs).encode()
    try:
        # As bytes, since reading as text would change the ends of lines.
        return for_repository(path.read_bytes().decode(), repo_id).encode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8, which the Hub needs; save it so") from error
