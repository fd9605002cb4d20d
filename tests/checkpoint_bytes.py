"""Checkpoints as bytes by file name: whole for the resolver, though no model runs on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

WORDS = {"[PAD]": 0, "[UNK]": 1, "ticket": 2}
POOLING = "sentence_transformers.models.Pooling"
TRANSFORMER = "sentence_transformers.models.Transformer"


def encoded(value: Any) -> bytes:
    """Return a value as the bytes of a JSON file."""
    return json.dumps(value).encode()


def tensors(*names: str, rows: int = 4) -> bytes:
    """Return a safetensors file that holds float32 zeros of 1 KiB a row under these names."""
    return save({name: np.zeros((rows, 256), np.float32) for name in names or ("weight",)})


TOKENIZER = {
    "tokenizer.json": Tokenizer(WordLevel(WORDS, "[UNK]")).to_str().encode(),
    "tokenizer_config.json": encoded({"tokenizer_class": "PreTrainedTokenizerFast"}),
}
CONFIG = {"config.json": encoded({"model_type": "bert", "architectures": ["BertModel"]})}
BERT = {**CONFIG, **TOKENIZER, "model.safetensors": tensors()}


def sharded(stem: str = "model", suffix: str = "safetensors") -> dict[str, bytes]:
    """Return a checkpoint whose two tensors lie in two files, with the index that says so."""
    shards = {f"{stem}-0000{n}-of-00002.{suffix}": tensors(f"layer.{n}") for n in (1, 2)}
    index = {"weight_map": {f"layer.{n}": name for n, name in enumerate(shards, 1)}}
    return {**CONFIG, **TOKENIZER, **shards, f"{stem}.{suffix}.index.json": encoded(index)}


def sentence_transformers(backbone: str = "", **types: str) -> dict[str, bytes]:
    """Return a sentence-transformers checkpoint with its transformer in the folder ``backbone``.

    Args:
        backbone: The folder of the transformer; the root if empty.
        **types: The class of a further module, by the name of its folder after ``2_``.
    """
    entries = [(TRANSFORMER, backbone), (POOLING, "1_Pooling")]
    entries += [(kind, f"2_{name}") for name, kind in types.items()]
    modules = [{"idx": n, "type": kind, "path": path} for n, (kind, path) in enumerate(entries)]
    inside = {f"{backbone}/{name}" if backbone else name: BERT[name] for name in BERT}
    pooling = {"1_Pooling/config.json": encoded({"pooling_mode_mean_tokens": True})}
    return {**inside, **pooling, "modules.json": encoded(modules)}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a checkpoint to a folder, and return the folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
