"""Tiny checkpoints of every architecture, built from their configuration at test time.

Their weights are random but large, so that a wrong mask, position or token type is as visible
as a wrong word: with the usual small initial weights, all texts have nearly one vector.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from tiny_tokenizers import MAX_LENGTH, tiny_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification

HIDDEN_SIZE = 32
# How much larger than usual the random weights are: measured to make every input matter.
WORD_GAIN = 2.0
POSITION_GAIN = 0.5
LINEAR_GAIN = 1.5
SCALE_SPREAD = 0.3
BIAS_SPREAD = 0.1

LABELS = ("O", "B-SRC", "I-SRC", "B-DST", "I-DST")

ENCODER_SIZES = {
    "hidden_size": HIDDEN_SIZE,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_LENGTH,
}
# RoBERTa counts positions from padding_idx + 1 = 2.
ROBERTA_SIZES = ENCODER_SIZES | {
    "max_position_embeddings": MAX_LENGTH + 2,
    "type_vocab_size": 1,
}
DISTILBERT_SIZES = {
    "dim": HIDDEN_SIZE,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": MAX_LENGTH,
}
# Local attention in every second layer reaches 8 tokens to each side, so short texts meet it.
MODERNBERT_SIZES = ENCODER_SIZES | {
    "num_hidden_layers": 3,
    "global_attn_every_n_layers": 2,
    "local_attention": 16,
}
# As in DeBERTa v3: relative positions in logarithmic buckets, no token types.
DEBERTA_SIZES = ENCODER_SIZES | {
    "relative_attention": True,
    "position_buckets": 16,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
DECODER_SIZES = ENCODER_SIZES | {"num_key_value_heads": 2, "head_dim": 8}


@dataclass(frozen=True)
class Architecture:
    """One row of the table of architectures.

    Attributes:
        model_type: The key of the architecture in transformers.
        tokenizer: The row of ``TOKENIZERS`` it is used with.
        settings: What its configuration changes from the library's defaults.
    """

    model_type: str
    tokenizer: str
    settings: Mapping[str, Any] = field(repr=False)


_ROWS = (
    Architecture("bert", "bert", ENCODER_SIZES),
    Architecture("roberta", "roberta", ROBERTA_SIZES),
    Architecture("xlm-roberta", "xlm-roberta", ROBERTA_SIZES),
    Architecture("camembert", "camembert", ROBERTA_SIZES),
    Architecture("distilbert", "distilbert", DISTILBERT_SIZES),
    Architecture("mpnet", "mpnet", ENCODER_SIZES | {"max_position_embeddings": MAX_LENGTH + 2}),
    Architecture("modernbert", "modernbert", MODERNBERT_SIZES),
    Architecture("electra", "electra", ENCODER_SIZES | {"embedding_size": 16}),
    Architecture("albert", "albert", ENCODER_SIZES | {"embedding_size": 16}),
    Architecture("deberta-v2", "deberta-v2", DEBERTA_SIZES),
    Architecture("qwen3", "qwen3", DECODER_SIZES),
    Architecture("mistral", "llama", DECODER_SIZES | {"sliding_window": None}),
    Architecture("llama", "llama", DECODER_SIZES),
)
ARCHITECTURES: Mapping[str, Architecture] = {row.model_type: row for row in _ROWS}

POOLING_FLAGS: Mapping[str, str] = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def _draw(owner: nn.Module, name: str, like: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return new values for one parameter; ``name`` is its name within its module."""
    values = torch.randn(like.shape, generator=random)
    if like.dim() == 1:
        return 1 + SCALE_SPREAD * values if name == "weight" else BIAS_SPREAD * values
    if isinstance(owner, nn.Embedding):
        is_word = owner.num_embeddings > 2 * MAX_LENGTH
        return values * (WORD_GAIN if is_word else POSITION_GAIN)
    # Rows with mean zero cancel what GELU adds to every text alike.
    centred = values - values.mean(-1, keepdim=True)
    return centred * LINEAR_GAIN / like.shape[-1] ** 0.5


def randomize(module: nn.Module, seed: int) -> None:
    """Replace every parameter: norms get random scales and biases too, linear layers a gain."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                parameter.copy_(_draw(owner, name, parameter, random))


def build_model(
    folder: Path,
    architecture: str,
    head: type = AutoModel,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write a model and its tokenizer as transformers saves them, with safetensors.

    Args:
        folder: Where to write; made if it is missing.
        architecture: A key of ``ARCHITECTURES``.
        head: The ``AutoModel...`` class whose head the checkpoint has.
        settings: More of the configuration, such as ``id2label``.
        seed: Decides all weights.
    """
    row = ARCHITECTURES[architecture]
    tokenizer = tiny_tokenizer(row.tokenizer)
    config = AutoConfig.for_model(
        row.model_type,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **row.settings,
        **(settings or {}),
    )
    model = head.from_config(config)
    randomize(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_encoder(folder: Path, architecture: str, *, seed: int = 0) -> Path:
    """Write a checkpoint without a head."""
    return build_model(folder, architecture, seed=seed)


def build_token_classifier(
    folder: Path, architecture: str, labels: Sequence[str] = LABELS, *, seed: int = 0
) -> Path:
    """Write a token classification checkpoint with these labels."""
    settings = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    head = AutoModelForTokenClassification
    return build_model(folder, architecture, head, settings=settings, seed=seed)


def _dense_layers(in_features: int, dense: Sequence[tuple[int, str]], seed: int) -> list[Dense]:
    widths = [in_features, *(width for width, _ in dense)]
    layers = [
        Dense(before, after, activation_function=getattr(nn, activation)())
        for before, (after, activation) in zip(widths[:-1], dense, strict=True)
    ]
    for index, layer in enumerate(layers):
        randomize(layer, seed + index + 1)
    return layers


def build_sentence_transformer(
    folder: Path,
    architecture: str,
    *,
    pooling: Sequence[str] = ("mean",),
    dense: Sequence[tuple[int, str]] = (),
    normalize: bool = True,
    max_seq_length: int = 48,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a sentence-transformers checkpoint with that library.

    Args:
        folder: Where to write; made if it is missing.
        architecture: A key of ``ARCHITECTURES``.
        pooling: Keys of ``POOLING_FLAGS``; the vectors of several are concatenated.
        dense: The width of each Dense layer, and the name of its activation in ``torch.nn``.
        normalize: Whether the vectors get length one.
        max_seq_length: The number of tokens after which a text is cut.
        prompts: What goes before a text, by the prompt's name.
        default_prompt_name: The prompt used when none is named.
        seed: Decides all weights.
    """
    flags = {flag: mode in pooling for mode, flag in POOLING_FLAGS.items()}
    with tempfile.TemporaryDirectory() as scratch:
        backbone = build_encoder(Path(scratch), architecture, seed=seed)
        transformer = Transformer(str(backbone), max_seq_length=max_seq_length)
    pooled = Pooling(transformer.get_word_embedding_dimension(), **flags)
    layers = _dense_layers(pooled.get_sentence_embedding_dimension(), dense, seed)
    model = SentenceTransformer(
        modules=[transformer, pooled, *layers, *([Normalize()] if normalize else [])],
        prompts=dict(prompts or {}),
        default_prompt_name=default_prompt_name,
        device="cpu",
    )
    model.save(str(folder), create_model_card=False)
    return folder
