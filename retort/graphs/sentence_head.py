"""The modules that sentence-transformers runs after a backbone, written for tracing.

This shares no code with sentence-transformers, which is what the finished graph is checked
against. Poolings: Reimers and Gurevych 2019 (Sentence-BERT), Muennighoff 2022 (SGPT, weighted).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.graphs.dense import Normalize, load_dense, load_weights
from retort.json_files import read_object
from retort.runtime.sentence_modules import POOLING_KEYS
from retort.source.checkpoint_layout import Module


def _cls(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens[:, 0]


def _pick(tokens: Tensor, index: Tensor) -> Tensor:
    return torch.gather(tokens, 1, index)[:, 0]


def _max(tokens: Tensor, mask: Tensor) -> Tensor:
    # By index: ONNX Runtime's shape inference fails on ReduceMax from opset 18 on.
    return _pick(tokens, tokens.argmax(dim=1, keepdim=True))


def _weighted(tokens: Tensor, weights: Tensor, power: float = 1.0) -> Tensor:
    total = weights.sum(dim=1).clamp(min=1e-9)
    return (tokens * weights).sum(dim=1) / total**power


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    return _weighted(tokens, mask)


def _mean_sqrt(tokens: Tensor, mask: Tensor) -> Tensor:
    return _weighted(tokens, mask, power=0.5)


def _weighted_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device, dtype=tokens.dtype)
    return _weighted(tokens, mask * positions[None, :, None])


def _last_token(tokens: Tensor, mask: Tensor) -> Tensor:
    # The last real token, whichever side is padded; a row without any gives zeros.
    # int32: ONNX Runtime has no ArgMax of int64.
    positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device, dtype=torch.int32)
    last = (mask.to(torch.int32) * positions[None, :, None]).argmax(dim=1, keepdim=True)
    return _pick(tokens * mask, last.expand(-1, 1, tokens.shape[2]))


POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}


class SentenceHead(nn.Module):
    """Poolings side by side, then layers: ``sentence_embedding`` from ``last_hidden_state``."""

    def __init__(self, modes: Sequence[str], layers: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.modes = [mode for mode in POOLINGS if mode in modes]
        self.layers = nn.Sequential(*layers)
        self.requires_grad_(False)

    def forward(self, outputs: Mapping[str, Tensor], attention_mask: Tensor) -> dict[str, Tensor]:
        """Return ``sentence_embedding`` ``[batch, dim]``."""
        tokens = outputs["last_hidden_state"]
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        if "max" in self.modes:
            # sentence-transformers overwrites padding for max, and cls of left padding reads it.
            tokens = tokens.masked_fill(mask == 0, -1e9)
        pooled = torch.cat([POOLINGS[mode](tokens, mask) for mode in self.modes], dim=1)
        return {"sentence_embedding": self.layers(pooled)}


def load_sentence_head(checkpoint: Checkpoint, modules: Sequence[Module]) -> SentenceHead:
    """Build the head that ``modules.json`` lists after the Transformer, weights loaded as fp32.

    Raises:
        InputError: If a module's files are missing or say something unknown.
    """
    pooling, *rest = modules
    others = [module for module in rest if module.type.endswith(".Pooling")]
    if others or not pooling.type.endswith(".Pooling"):
        raise InputError(
            f"{checkpoint.folder / 'modules.json'}: expected one Pooling right after Transformer"
        )
    modes = _pooling_modes(checkpoint.folder / pooling.path)
    layers = [
        layer
        for module in rest
        if (layer := HEAD_MODULES[module.type](checkpoint, checkpoint.folder / module.path))
    ]
    return SentenceHead(modes, layers)


def _pooling_modes(folder: Path) -> list[str]:
    settings = read_object(folder / "config.json")
    if settings.get("pooling_mode"):
        modes = [str(settings["pooling_mode"]).lower()]
    else:
        # sentence-transformers takes the mean unless the file says otherwise.
        flags = {POOLING_KEYS["mean"]: True, **settings}
        modes = [mode for mode, key in POOLING_KEYS.items() if flags.get(key)]
    if not modes or not set(modes) <= set(POOLINGS):
        raise InputError(f"{folder / 'config.json'}: unknown pooling {modes}; correct it there")
    return modes


def _layer_norm(checkpoint: Checkpoint, folder: Path) -> nn.Module:
    norm = nn.LayerNorm(read_object(folder / "config.json")["dimension"])
    load_weights(norm, checkpoint, folder, prefix="norm.")
    return norm


def _normalize(checkpoint: Checkpoint, folder: Path) -> nn.Module:
    return Normalize()


def _nothing(checkpoint: Checkpoint, folder: Path) -> None:
    return None


HEAD_MODULES: Mapping[str, Callable[[Checkpoint, Path], nn.Module | None]] = {
    "sentence_transformers.models.Pooling": _nothing,  # read by load_sentence_head itself
    "sentence_transformers.models.Dense": load_dense,
    "sentence_transformers.models.LayerNorm": _layer_norm,
    "sentence_transformers.models.Normalize": _normalize,
    "sentence_transformers.models.Dropout": _nothing,  # does nothing at inference
}
