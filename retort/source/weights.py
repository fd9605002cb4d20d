"""Choose a checkpoint's weight files, and check that they are whole, without loading them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from retort.errors import InputError
from retort.json_files import read_object, refuse_lfs_pointer
from retort.source.checkpoint_layout import all_modules, backbone_folder, part_of

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
_OTHER_FORMATS = {
    "TensorFlow": r"tf_model.*\.h5|.*\.ckpt.*|saved_model\.pb",
    "Flax": r"flax_model.*\.msgpack",
    "Rust": r"rust_model\.ot",
    "ONNX": r".*\.onnx",
    "GGUF": r".*\.gguf",
    "an adapter's": r"adapter_model\..*",
}
_LEGACY_PICKLE = b"\x80\x02"  # torch.save before 1.6: a pickle of protocol 2, no zip file


def weight_files(folder: Path, names: Collection[str], *, allow_pickle: bool) -> list[str]:
    """Return the weight files of a checkpoint's parts; of two formats, the safetensors.

    Args:
        folder: The checkpoint's folder; of weights, only the indexes of shards must be there.
        names: All files of the checkpoint, relative to ``folder``, with slashes.
        allow_pickle: Whether files that are loaded with Python's pickle may be chosen.

    Raises:
        InputError: If the backbone has no PyTorch weights, or a part has only pickles and those
            are not allowed, or an index of shards is damaged.
    """
    chosen: list[str] = []
    backbone = backbone_folder(folder)
    # Where modules have folders of their own, weights in the root belong to none of them.
    parts = [module.path for module in all_modules(folder)] or [""]
    for part in dict.fromkeys(parts):
        found = _weights_of(folder, names, part, allow_pickle=allow_pickle)
        if not found and folder / part == backbone:
            raise InputError(_no_weights(backbone, names))
        chosen += found
    return chosen


def _weights_of(
    folder: Path, names: Collection[str], part: str, *, allow_pickle: bool
) -> list[str]:
    prefix = f"{part}/" if part else ""
    safe = _whole_or_shards(folder, names, prefix + SAFETENSORS)
    if safe:
        return safe
    pickles = [prefix + PICKLE, f"{prefix}{PICKLE}.index.json"]
    found = next((name for name in pickles if name in names), None)
    if found and not allow_pickle:
        raise InputError(
            f"{folder / found}: pickle weights, which can run code when they are loaded, and no "
            "safetensors; if you trust their author, pass --allow_pickle (they are then loaded "
            "with weights_only=True)"
        )
    return _whole_or_shards(folder, names, prefix + PICKLE)


def _whole_or_shards(folder: Path, names: Collection[str], whole: str) -> list[str]:
    if whole in names:
        return [whole]
    index = f"{whole}.index.json"
    if index not in names:
        return []
    prefix = f"{part_of(whole)}/" if part_of(whole) else ""
    shards = sorted({prefix + shard for shard in weight_map(folder / index).values()})
    missing = [shard for shard in shards if shard not in names]
    if missing:
        raise InputError(
            f"{folder / missing[0]}: missing, though {index} names it; "
            "save or download the checkpoint again"
        )
    return shards


def weight_map(index: Path) -> dict[str, str]:
    """Return which file holds which tensor, from an index of shards.

    Raises:
        InputError: If the index is damaged, or names a file outside its own folder.
    """
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise InputError(f"{index}: no weight_map; save or download the checkpoint again")
    for shard in shards.values():
        if not isinstance(shard, str) or re.search(r"[/\\]", shard) or not shard.isprintable():
            raise InputError(f"{index}: shard {shard!r} is no plain file name; do not trust it")
    return shards


def _no_weights(backbone: Path, names: Collection[str]) -> str:
    remedy = "save the model with save_pretrained(folder), which writes model.safetensors"
    others = [
        f"only {kind} weights ({name}), "
        for kind, pattern in _OTHER_FORMATS.items()
        for name in sorted(names)
        if re.fullmatch(pattern, name.rpartition("/")[2])
    ]
    return f"{backbone}: {others[0] if others else ''}no {SAFETENSORS}; {remedy}"


def check_weights(folder: Path, files: Collection[str]) -> None:
    """Check that weight files are whole: headers, lengths, and the tensors that an index names.

    Raises:
        InputError: If a file is missing, truncated, or not what its name says.
    """
    tensors: dict[str, set[str]] = {}
    for name in files:
        refuse_lfs_pointer(folder / name)
        if name.endswith(".safetensors"):
            tensors[name] = _tensors(folder / name)
        else:
            _check_pickle(folder / name)
    for part in sorted({part_of(name) for name in tensors}):
        index = folder / part / f"{SAFETENSORS}.index.json"
        if index.exists() and not (folder / part / SAFETENSORS).exists():
            _check_index(index, tensors, part)


def _tensors(path: Path) -> set[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            names = set(opened.keys())
    except SafetensorError as error:
        raise InputError(
            f"{path}: truncated, or not a safetensors file ({error}); save or download it again"
        ) from error
    if not names:
        raise InputError(f"{path}: holds no tensors; save or download it again")
    return names


def _check_index(index: Path, tensors: dict[str, set[str]], part: str) -> None:
    prefix = f"{part}/" if part else ""
    for tensor, shard in weight_map(index).items():
        if tensor not in tensors.get(prefix + shard, set()):
            raise InputError(
                f"{index.with_name(shard)}: lacks {tensor}, which {index.name} says it holds; "
                "save or download the checkpoint again"
            )


def _check_pickle(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(len(_LEGACY_PICKLE))
    if start != _LEGACY_PICKLE and not zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: truncated, or not written by torch.save; save or download it again"
        )
