"""Package: the folder that every consumer loads, around the finished graphs."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort import __version__
from retort.artifact import Artifact, Checkpoint, graph_files
from retort.graphs.onnx_file import header_elsewhere, settle_header
from retort.json_files import read_json, read_object, write_json
from retort.output.output_folder import link_or_copy
from retort.source.checkpoint_layout import LICENCES, ROUTER_FILE, Module, Router, modules, router
from retort.tokenizer_files import settle_tokenizer

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily
    from retort.arguments import ExportArguments

logger = logging.getLogger(__name__)

TOKENIZER_FILES = (
    "added_tokens.json", "chat_template.jinja", "merges.txt", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "*.model",
)  # fmt: skip
PROCESSOR_FILES = (
    "preprocessor_config.json", "processor_config.json", "chat_template.json",
    "video_preprocessor_config.json",
)  # fmt: skip
CARRIED_FILES = (
    "config_sentence_transformers.json", "id2label.json", "label2id.json", "verify_texts.txt",
    *LICENCES,
)  # fmt: skip


def place_graphs(
    variants: Mapping[str, Artifact], checkpoint: Checkpoint, folder: Path
) -> dict[str, Artifact]:
    """Write each graph under its final name, with the header and metadata it ships with.

    Args:
        variants: The graphs by their names in the folder, such as ``onnx/model.onnx``.
        checkpoint: Named in the metadata.
        folder: The folder in the making.
    """
    placed = {}
    for name, artifact in variants.items():
        started = time.perf_counter()
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        metadata = graph_metadata(checkpoint, artifact.family)
        settle_header(artifact.path, target, metadata)
        settings = {"file": name, "metadata": metadata}
        placed[name] = artifact.after(target, "place", settings, time.perf_counter() - started)
    return placed


def graph_metadata(checkpoint: Checkpoint, family: str) -> dict[str, str]:
    """Return the ``metadata_props`` of every graph made from the checkpoint."""
    config = checkpoint.config
    heads = config.get("num_attention_heads") or config.get("n_heads") or config.get("n_head") or ""
    hidden = config.get("hidden_size") or config.get("dim") or config.get("d_model") or ""
    return {
        "family": family,
        "model_type": checkpoint.model_type,
        "num_heads": str(heads),
        "hidden_size": str(hidden),
        "producer": "retort",
        "producer_version": __version__,
        "source": checkpoint.name,
        "commit": checkpoint.commit or "",
    }


def package(
    placed: Mapping[str, Artifact],
    links: Mapping[str, str],
    checkpoint: Checkpoint,
    family: ModelFamily,
    arguments: ExportArguments,
    folder: Path,
) -> dict[str, str]:
    """Write everything that stands beside the graphs: configuration, tokenizer, poolings, labels.

    Args:
        placed: The graphs by their names in the folder.
        links: Further names of the same bytes, by name: they become hard links, or where there is
            external data, headers that point at it.
        checkpoint: Where the files come from; only read.
        family: Adds its own sidecar files.
        arguments: Say which sidecars the graph needs.
        folder: The folder in the making.

    Returns:
        The links that were made; in one folder, external data is found under one name only.

    Raises:
        ConversionError: If the checkpoint's tokenizer cannot be written as ``tokenizer.json``.
    """
    made = {name: file for name, file in links.items() if _link(folder / file, folder / name)}
    _copy_matching(checkpoint.backbone, (*TOKENIZER_FILES, *PROCESSOR_FILES), folder)
    _copy_matching(checkpoint.folder, CARRIED_FILES, folder)
    if checkpoint.trust_remote_code:
        _copy_matching(checkpoint.backbone, ("*.py",), folder)
    _copy_sentence_modules(checkpoint, folder)
    _write_config(placed, checkpoint, family, folder)
    added = family.added_tokens(checkpoint)
    settle_tokenizer(checkpoint, family.maximum_length(checkpoint), folder, added)
    for name, content in family.sidecars(checkpoint, arguments).items():
        if isinstance(content, str):
            (folder / name).write_text(content, encoding="utf-8")
        else:
            write_json(folder / name, content)
    return made


def _link(graph: Path, name: Path) -> bool:
    """Give a graph a second name, unless external data of that name would have to lie beside."""
    if len(graph_files(graph)) == 1:
        link_or_copy(graph, name)
        return True
    if name.parent == graph.parent:
        return False
    name.write_bytes(header_elsewhere(graph, name))
    return True


def _copy_matching(source: Path, patterns: Sequence[str], folder: Path) -> None:
    for pattern in patterns:
        for file in sorted(source.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


def _copy_sentence_modules(checkpoint: Checkpoint, folder: Path) -> None:
    path = checkpoint.folder / "modules.json"
    if not path.is_file():
        return
    entries: list[dict[str, Any]] = []
    routed = router(checkpoint.folder)
    for entry, module in zip(read_json(path), modules(checkpoint.folder), strict=True):
        is_router = routed is not None and not entries  # it has no files but its configuration
        place = "" if is_router else _copy_module(checkpoint, module, folder)
        entries.append({**entry, "path": place})
    write_json(folder / "modules.json", entries)
    if routed is not None:
        _copy_router(checkpoint, routed, folder)
    _copy_matching(checkpoint.backbone, ("sentence_*_config.json",), folder)


def _copy_module(checkpoint: Checkpoint, module: Module, folder: Path) -> str:
    """Copy a module's files and return their folder; the backbone's stand at the root."""
    if module.path == checkpoint.subfolder:
        return ""
    source = checkpoint.folder / module.path
    if source.is_dir():
        shutil.copytree(source, folder / module.path, copy_function=shutil.copyfile)
    return module.path


def _copy_router(checkpoint: Checkpoint, routed: Router, folder: Path) -> None:
    # A module's id is its folder, so the backbone's changes with it.
    ids = {key: _copy_module(checkpoint, m, folder) for key, m in routed.modules.items()}
    content = read_object(checkpoint.folder / ROUTER_FILE)
    types = {ids[key]: module.type for key, module in routed.modules.items()}
    routes = {name: [ids[key] for key in keys] for name, keys in routed.routes.items()}
    write_json(folder / ROUTER_FILE, {**content, "types": types, "structure": routes})


def _write_config(
    placed: Mapping[str, Artifact], checkpoint: Checkpoint, family: ModelFamily, folder: Path
) -> None:
    config = {**checkpoint.config, **family.config_updates(checkpoint)}
    external = {
        Path(name).name: True
        for name, artifact in placed.items()
        if len(graph_files(artifact.path)) > 1
    }
    told = dict(config.pop("transformers.js_config", {}))
    told.pop("use_external_data_format", None)
    if external:
        told["use_external_data_format"] = external
    if told:
        config["transformers.js_config"] = told
    write_json(folder / "config.json", config)
