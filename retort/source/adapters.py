"""LoRA adapters: what a checkpoint with an adapter in the place of weights must be made into."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from retort.errors import InputError
from retort.json_files import read_object
from retort.source.checkpoint_layout import TOKENIZERS, backbone_folder
from retort.source.weights import PICKLE, SAFETENSORS

logger = logging.getLogger(__name__)

ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = frozenset(name + end for name in (SAFETENSORS, PICKLE) for end in ("", ".index.json"))


def refuse_adapter(folder: Path, model_id: str, names: Collection[str]) -> None:
    """Refuse a checkpoint whose backbone is an adapter of another model, and say how to merge them.

    Args:
        folder: The checkpoint's folder; of its files, ``adapter_config.json`` is read.
        model_id: What the user asked for: a Hub id, or a local path.
        names: All files of the checkpoint, relative to ``folder``, with slashes.

    Raises:
        InputError: If there is an adapter without full weights beside it.
    """
    backbone = backbone_folder(folder)
    if not (backbone / ADAPTER_CONFIG).is_file():
        return
    part = PurePosixPath("" if backbone == folder else backbone.relative_to(folder).as_posix())
    beside = {PurePosixPath(name).name for name in names if PurePosixPath(name).parent == part}
    if beside & _WEIGHTS:
        logger.warning(
            "%s: there are full weights beside it, and only they are read where peft is not "
            "installed",
            backbone / ADAPTER_CONFIG,
        )
        return
    config = read_object(backbone / ADAPTER_CONFIG)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base or not base.isprintable():
        raise InputError(
            f"{backbone}: a LoRA adapter whose {ADAPTER_CONFIG} names no base model; merge it into "
            "its base with peft: PeftModel.from_pretrained(base, adapter).merge_and_unload()"
            ".save_pretrained(folder)"
        )
    has_tokenizer = any(PurePosixPath(n).match(kind) for n in beside for kind in TOKENIZERS)
    lines = _merging(model_id, base, part, _base_class(config), tokenizer=not has_tokenizer)
    raise InputError(
        f"{backbone}: a LoRA adapter of {base} without full weights; merge them (pip install peft) "
        f"and convert the merged folder: python -c {shlex.quote('; '.join(lines))}"
    )


def _base_class(config: dict[str, object]) -> tuple[str, str]:
    """Return the module and the name of the class that the adapter was trained on."""
    told = config.get("auto_mapping")
    mapping = told if isinstance(told, dict) else {}
    library, name = mapping.get("parent_library"), mapping.get("base_model_class")
    if (
        isinstance(library, str)
        and isinstance(name, str)
        and f"{library}.{name}".replace(".", "_").isidentifier()
    ):
        return library, name
    tasks = {
        "SEQ_CLS": "AutoModelForSequenceClassification",
        "TOKEN_CLS": "AutoModelForTokenClassification",
    }
    return "transformers", tasks.get(str(config.get("task_type")), "AutoModel")


def _merging(
    model_id: str, base: str, part: PurePosixPath, kind: tuple[str, str], *, tokenizer: bool
) -> list[str]:
    """Return Python's lines that copy the checkpoint with merged weights in the adapter's place."""
    merged = f"{PurePosixPath(model_id).name}-merged"
    local = Path(model_id).is_dir()
    inside = "" if part == PurePosixPath() else part.as_posix()
    place = f"{merged}/{inside}" if inside else merged
    adapter = f"{model_id}/{inside}" if local and inside else model_id
    subfolder = f", subfolder={_quoted(inside)}" if inside and not local else ""
    lines = [
        "from peft import PeftModel",
        f"from {kind[0]} import {kind[1]} as Base",
        f"base = Base.from_pretrained({_quoted(base)})",
        f"model = PeftModel.from_pretrained(base, {_quoted(adapter)}{subfolder})",
    ]
    if local:
        lines[:0] = ["import shutil"]
        ignored = 'ignore=shutil.ignore_patterns("adapter_*")'
        lines.append(f"shutil.copytree({_quoted(model_id)}, {_quoted(merged)}, {ignored})")
    else:
        lines[:0] = ["from huggingface_hub import snapshot_download"]
        ignored = 'ignore_patterns="*adapter_*"'
        lines.append(
            f"snapshot_download({_quoted(model_id)}, local_dir={_quoted(merged)}, {ignored})"
        )
    lines.append(f"model.merge_and_unload().save_pretrained({_quoted(place)})")
    if tokenizer:
        lines.insert(0, "from transformers import AutoTokenizer")
        lines.append(
            f"AutoTokenizer.from_pretrained({_quoted(base)}).save_pretrained({_quoted(place)})"
        )
    return lines


def _quoted(text: str) -> str:
    # In double quotes, which a shell's single ones hold as they are.
    return json.dumps(text)
