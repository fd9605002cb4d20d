"""Checks of what a checkpoint says about itself, made before anything large is read."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from retort.errors import InputError
from retort.json_files import read_json, read_object, refuse_lfs_pointer
from retort.source.checkpoint_layout import (
    TOKENIZERS,
    all_modules,
    backbone_folder,
    metadata_files,
    names_in,
    parts_of,
)


def check_config(folder: Path) -> dict[str, Any]:
    """Return the backbone's parsed ``config.json``.

    Raises:
        InputError: If it is missing or damaged, or describes no model.
    """
    path = backbone_folder(folder) / "config.json"
    if not path.exists():
        raise InputError(_no_config(folder, path))
    config = read_object(path)
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise InputError(f"{path}: no model_type, so not a transformers model; check the folder")
    names = config.get("architectures")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise InputError(f"{path}: architectures is not a list of names; correct it there")
    return config


def _no_config(folder: Path, path: Path) -> str:
    if not any(folder.iterdir()):
        return f"{folder}: an empty folder; pass the folder of a saved checkpoint"
    return f"{path}: not found, so this is no transformers checkpoint; pass the folder that has it"


def check_modules(folder: Path) -> None:
    """Check that the files of every module in ``modules.json`` are there.

    Raises:
        InputError: If a module's folder is missing or empty.
    """
    for module in all_modules(folder):
        # Normalize has nothing to save, and git keeps no empty folder.
        if module.type.endswith(".Normalize") or names_in(folder, [module.path]):
            continue
        raise InputError(
            f"{folder / module.path}: no files, though modules.json names this module; "
            "save or download the checkpoint again"
        )


def check_metadata(folder: Path) -> None:
    """Check that the JSON files and the tokenizer of a checkpoint can be read.

    Raises:
        InputError: If one is damaged, or there is no tokenizer.
    """
    parts = parts_of(folder)
    names = metadata_files(names_in(folder, parts), parts)
    if not any(_is_tokenizer(name) for name in names):
        raise InputError(
            f"{backbone_folder(folder)}: no tokenizer ({', '.join(TOKENIZERS[:3])}, ...); save it "
            "there with tokenizer.save_pretrained(folder)"
        )
    for name in names:
        _check_file(folder / name)


def _is_tokenizer(name: str) -> bool:
    return any(fnmatchcase(PurePosixPath(name).name, pattern) for pattern in TOKENIZERS)


def _check_file(path: Path) -> None:
    if path.name == "tokenizer.json":
        _check_tokenizer(path)
    elif path.name.endswith("_config.json"):
        read_object(path)
    elif path.suffix == ".json":
        read_json(path)


def _check_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    refuse_lfs_pointer(path)
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:
        # The tokenizers library raises the bare base class, and nothing narrower.
        if type(error) is not Exception:
            raise
        raise InputError(
            f"{path}: the tokenizers library cannot read it ({error}); save or download it again"
        ) from error
