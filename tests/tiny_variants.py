"""Other forms of a tiny checkpoint: bfloat16, pickle, and one that brings its own code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

REMOTE_MODULE = "modeling_tiny_remote"
REMOTE_CODE = '''"""A BERT under another name, as a repository with its own code would bring it."""

from transformers import BertConfig, BertModel


class TinyRemoteConfig(BertConfig):
    """The configuration of ``TinyRemoteModel``."""

    model_type = "tiny_remote"


class TinyRemoteModel(BertModel):
    """A BERT that only this folder's code can load."""

    config_class = TinyRemoteConfig
'''


def _change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def as_bfloat16(folder: Path) -> Path:
    """Rewrite a checkpoint's weights as bfloat16 safetensors."""
    weights = folder / "model.safetensors"
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}
    save_file(halved, weights, metadata={"format": "pt"})
    _change_config(folder, dtype="bfloat16")
    return folder


def as_pickle(folder: Path) -> Path:
    """Replace a checkpoint's safetensors with ``pytorch_model.bin``."""
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def with_remote_code(folder: Path) -> Path:
    """Give a BERT checkpoint a model type of its own, and the code that knows it."""
    (folder / f"{REMOTE_MODULE}.py").write_text(REMOTE_CODE, encoding="utf-8")
    _change_config(
        folder,
        model_type="tiny_remote",
        architectures=["TinyRemoteModel"],
        auto_map={
            "AutoConfig": f"{REMOTE_MODULE}.TinyRemoteConfig",
            "AutoModel": f"{REMOTE_MODULE}.TinyRemoteModel",
        },
    )
    return folder
