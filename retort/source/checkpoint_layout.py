"""Where a checkpoint keeps what: the folders of its modules, and its files other than weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from retort.errors import InputError
from retort.json_files import read_json, read_object

ROUTER_FILE = "router_config.json"

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "bpe.codes", "*.tiktoken", "*.model")

LICENCES = ("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*", "[Nn][Oo][Tt][Ii][Cc][Ee]*")

# What the families, the tokenizers and the consumers of a converted folder read besides weights.
METADATA = (
    *TOKENIZERS,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
    *("config.json", "modules.json", "sentence_*_config.json", "config_sentence_transformers.json"),
    ROUTER_FILE,
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("chat_template.json", "*.jinja", "artifact.metadata", "adapter_config.json"),
    *("label*.json", "label*.txt", "id2label.json", "verify_texts.txt"),
    *("model.safetensors.index.json", "pytorch_model.bin.index.json"),
    *("README.md", *LICENCES),
)


@dataclass(frozen=True)
class Module:
    """One entry of ``modules.json``: its Python class, and its folder below the checkpoint's."""

    type: str
    path: str


@dataclass(frozen=True)
class Router:
    """A module of sentence-transformers that sends queries and documents different ways.

    Attributes:
        modules: All its modules, by the ids that its configuration gives them.
        routes: The ids of each route's modules, in order.
        default: The route of a text that is neither called a query nor a document.
    """

    modules: Mapping[str, Module]
    routes: Mapping[str, tuple[str, ...]]
    default: str

    def route(self, name: str) -> tuple[Module, ...]:
        """Return the modules that ``query`` or ``document`` texts go through."""
        return tuple(self.modules[key] for key in self.routes.get(name, ()))


def modules(folder: Path) -> tuple[Module, ...]:
    """Return the modules of a sentence-transformers or PyLate checkpoint, () for any other.

    Raises:
        InputError: If ``modules.json`` is damaged, or a path in it leaves the checkpoint.
    """
    path = folder / "modules.json"
    if not path.exists():
        return ()
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: not a list of modules; save or download the checkpoint again")
    return tuple(_module(path, entry) for entry in entries)


def _module(path: Path, entry: Any) -> Module:
    fields = entry if isinstance(entry, Mapping) else {}
    kind, where = fields.get("type"), fields.get("path")
    if not isinstance(kind, str) or not isinstance(where, str):
        raise InputError(f"{path}: an entry lacks its type or path; save the checkpoint again")
    place = PurePosixPath(where)
    if place.is_absolute() or ".." in place.parts or "\\" in where or not where.isprintable():
        raise InputError(f"{path}: path {where!r} leads out of the checkpoint; do not trust it")
    return Module(kind, "" if place == PurePosixPath() else str(place))


def router(folder: Path) -> Router | None:
    """Return the Router that a checkpoint begins with, if it does.

    Raises:
        InputError: If ``modules.json`` or ``router_config.json`` is damaged.
    """
    entries = modules(folder)
    if not entries or not entries[0].type.endswith(".Router"):
        return None
    path = folder / entries[0].path / ROUTER_FILE
    content = read_object(path)
    types, routes = content.get("types"), content.get("structure")
    if entries[0].path or not isinstance(types, dict) or not isinstance(routes, dict):
        raise InputError(f"{path}: not as sentence-transformers saves it; save the model again")
    found = {key: _module(path, {"type": kind, "path": key}) for key, kind in types.items()}
    for keys in routes.values():
        if not isinstance(keys, list) or not all(isinstance(k, str) and k in found for k in keys):
            raise InputError(f"{path}: a route names unknown modules; save the model again")
    default = (content.get("parameters") or {}).get("default_route") or next(iter(routes), "")
    return Router(found, {name: tuple(keys) for name, keys in routes.items()}, default)


def all_modules(folder: Path) -> tuple[Module, ...]:
    """Return the modules of a checkpoint, a Router's instead of the Router itself.

    Raises:
        InputError: If ``modules.json`` or ``router_config.json`` is damaged.
    """
    first = router(folder)
    return (*first.modules.values(), *modules(folder)[1:]) if first else modules(folder)


def document_modules(folder: Path) -> tuple[Module, ...]:
    """Return the modules that a document goes through, whatever a Router does with queries.

    Raises:
        InputError: If ``modules.json`` or ``router_config.json`` is damaged.
    """
    first = router(folder)
    return (*first.route("document"), *modules(folder)[1:]) if first else modules(folder)


def backbone_folder(folder: Path) -> Path:
    """Return where the transformer's ``config.json`` lies: a document's first module, or the root.

    Raises:
        InputError: If ``modules.json`` or ``router_config.json`` is damaged.
    """
    entries = document_modules(folder)
    return folder / entries[0].path if entries else folder


def parts_of(folder: Path) -> tuple[str, ...]:
    """Return the folders that make up a checkpoint, relative to it; the root is ``""``.

    Raises:
        InputError: If ``modules.json`` or ``router_config.json`` is damaged.
    """
    return tuple(dict.fromkeys(["", *(module.path for module in all_modules(folder))]))


def part_of(name: str) -> str:
    """Return the folder of a file, spelled as ``parts_of`` does."""
    return name.rpartition("/")[0]


def names_in(folder: Path, parts: Iterable[str]) -> list[str]:
    """Return the files of a local folder's parts as the Hub lists them: relative, with slashes.

    Raises:
        InputError: If a part cannot be listed.
    """
    try:
        return sorted(
            str(PurePosixPath(part, path.name))
            for part in parts
            if (folder / part).is_dir()
            for path in (folder / part).iterdir()
            if path.is_file()
        )
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); check it") from error


def metadata_files(names: Iterable[str], parts: Collection[str]) -> list[str]:
    """Return the files that say what a checkpoint is, without weights and code."""
    return [name for name in names if part_of(name) in parts and _is_metadata(name)]


def _is_metadata(name: str) -> bool:
    patterns = (*METADATA, "*.json", "*.txt") if part_of(name) else METADATA
    return any(fnmatchcase(PurePosixPath(name).name, pattern) for pattern in patterns)
