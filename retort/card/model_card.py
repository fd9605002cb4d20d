"""README.md of a finished folder, from what ``conversion.json`` says and nothing else.

In the folder its code names the folder; an uploaded copy names the repository, and is otherwise
the same: see ``for_repository``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort import __version__
from retort.artifact import Checkpoint
from retort.card.command_line import command_line
from retort.card.consumers import chosen_graph
from retort.card.facts import MODEL, CardFacts, GraphFile, Usage
from retort.card.measured import code_names, files_and_figures, markdown_table, megabytes
from retort.card.metadata import HUB, README, front_matter, names_licence, source_metadata
from retort.json_files import read_object
from retort.source.checkpoint_layout import LICENCES

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily

_IN_A_FOLDER = f"In this code, `{MODEL}` stands for this folder."
_IN_A_REPOSITORY = (
    f"What reads folders only finds the files after `hf download {MODEL} --local-dir {MODEL}`."
)


def write_card(folder: Path, checkpoint: Checkpoint, family: ModelFamily) -> None:
    """Write README.md into a folder that has its ``conversion.json``.

    Args:
        folder: The folder in the making.
        checkpoint: The source; its README.md tells the licence and more.
        family: Tells how the files are used.
    """
    record = read_object(folder / "conversion.json")
    graphs = graphs_of(record)
    facts = family.card(checkpoint, graphs)
    said = source_metadata(checkpoint.folder)
    parts = (
        f"---\n{front_matter(folder, record, said, facts)}\n---",
        *_introduction(record),
        *_licence(folder, said),
        *files_and_figures(record),
        *_use(facts, graphs),
        *_making(record),
    )
    (folder / README).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def for_repository(card: str, repo_id: str) -> str:
    """Return a card for a repository: its id instead of the placeholder for the folder.

    Nothing else is changed, whoever wrote it.
    """
    return card.replace(_IN_A_FOLDER, _IN_A_REPOSITORY).replace(MODEL, repo_id)


def plain_card(name: str, graphs: Mapping[str, int]) -> str:
    """Return a card for a folder that has none: its name, and its graphs with their bytes."""
    rows = [(f"`{graph}`", megabytes(size)) for graph, size in graphs.items()]
    parts = (
        "---\ntags:\n- onnx\n---",
        f"# {name}",
        f"ONNX files, uploaded with Retort {__version__}, which measured nothing of them.",
        markdown_table(("file", "MB"), rows),
    )
    return "\n\n".join(parts) + "\n"


def graphs_of(record: Mapping[str, Any]) -> list[GraphFile]:
    """Return the graphs that ``conversion.json`` names, second names after all others."""
    files = record["files"]
    named = {**{name: name for name in files}, **record["links"]}
    return [_graph(name, files[file]) for name, file in named.items()]


def _graph(name: str, told: Mapping[str, Any]) -> GraphFile:
    return GraphFile(name, told["precision"], tuple(told["inputs"]), tuple(told["outputs"]))


def _introduction(record: Mapping[str, Any]) -> Iterable[str]:
    source = record["source"]
    name = source["model_id"]
    yield f"# {name}: ONNX"
    if source["from_hub"]:
        told = f"[{name}]({HUB}/{name}) at commit `{source['commit']}`"
    else:
        told = f"the local checkpoint `{name}`"
    yield (
        f"The weights of {told}, converted to ONNX by Retort {record['versions']['retort']} as a "
        f"model of the family `{record['family']}`."
    )


def _licence(folder: Path, said: Mapping[str, Any]) -> Iterable[str]:
    texts = sorted(path.name for pattern in LICENCES for path in folder.glob(pattern))
    if names_licence(said):
        return
    if texts:
        yield f"The source's licence is in {code_names(texts)}."
    else:
        yield "The source names no licence: ask its authors before you use or share this copy."


def _use(facts: CardFacts, graphs: Sequence[GraphFile]) -> Iterable[str]:
    if not facts.usages:
        return
    yield "## Use"
    yield (
        f"Where this code names a graph, it is `{chosen_graph(graphs)}`; the others are used alike."
    )
    yield _IN_A_FOLDER
    for usage in facts.usages:
        yield f"### {usage.consumer}"
        if usage.note:
            yield usage.note
        yield _block(usage)


def _making(record: Mapping[str, Any]) -> Iterable[str]:
    yield "## How it was made"
    yield f"```bash\n{command_line(record)}\n```"
    versions = [f"{name} {number}" for name, number in record["versions"].items()]
    yield f"With {', '.join(versions)}. `conversion.json` has every step with its settings."


def _block(usage: Usage) -> str:
    return f"```{usage.language}\n{usage.code.rstrip()}\n```"
