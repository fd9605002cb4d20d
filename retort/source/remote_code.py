"""Find out whether a checkpoint can only be loaded by running Python code that it brings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.errors import InputError
from retort.json_files import read_object
from retort.source.checkpoint_layout import all_modules, backbone_folder

logger = logging.getLogger(__name__)

LIBRARIES = ("sentence_transformers.", "pylate.")  # whose modules Retort or its libraries know
# A file of the checkpoint, and the keys in it that name a class of transformers.
_CLASS_KEYS = {
    "config.json": ("architectures",),
    "tokenizer_config.json": ("tokenizer_class",),
    "preprocessor_config.json": ("image_processor_type", "processor_class"),
    "processor_config.json": ("processor_class",),
}


def check_remote_code(folder: Path, where: str, *, trust_remote_code: bool) -> None:
    """Refuse a checkpoint that needs its own code, unless the user allowed it.

    Args:
        folder: The checkpoint's folder, without weights.
        where: The repository and commit, or the folder, as the message shall name it.
        trust_remote_code: Whether the user allowed it.

    Raises:
        InputError: If the checkpoint needs its own code and that is not allowed.
    """
    needed = [*_module_code(folder), *_mapped_code(folder)]
    if needed and trust_remote_code:
        logger.debug("%s: running Python code that it brings (%s)", where, ", ".join(needed))
    elif needed:
        raise InputError(
            f"{where}: can only be loaded with Python code that it brings ({', '.join(needed)}); "
            "read that code, then pass --trust_remote_code to run it"
        )


def _module_code(folder: Path) -> Iterator[str]:
    for module in all_modules(folder):
        if not module.type.startswith(LIBRARIES):
            yield module.type


def _mapped_code(folder: Path) -> Iterator[str]:
    """Yield the classes in ``auto_map`` of those files that transformers does not cover itself."""
    backbone = backbone_folder(folder)
    for place in dict.fromkeys([backbone, folder]):
        for name, keys in _CLASS_KEYS.items():
            if (place / name).exists():
                content = read_object(place / name)
                mapped = list(_names(content.get("auto_map")))
                if mapped and not _is_native(content, [*_named(content, keys), *mapped]):
                    yield from mapped


def _named(content: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        yield from _names(content.get(key))


def _names(value: Any) -> Iterator[str]:
    """Yield the strings in a string, a list or a mapping of them; null stands for no class."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _names(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)


def _is_native(content: Mapping[str, Any], classes: Iterable[str]) -> bool:
    """Return whether transformers has the model type and every class under its own name.

    The names must all be known: some checkpoints map a known ``model_type`` such as ``bert`` to a
    network of their own, and transformers would load those weights into the wrong network.
    """
    # This imports torch, so only checkpoints with an auto_map pay for it.
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    known = set(dir(transformers))
    native = content.get("model_type", "bert") in CONFIG_MAPPING_NAMES and all(
        name.rpartition(".")[2] in known for name in classes
    )
    if native:
        logger.info("transformers has this architecture: the checkpoint's own code is not used")
    return native
