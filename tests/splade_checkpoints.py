"""Tiny SPLADE checkpoints, saved by sentence-transformers, and plain masked language models."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.models import Router
from sentence_transformers.sparse_encoder.models import (
    MLMTransformer,
    SparseStaticEmbedding,
    SpladePooling,
)
from tiny_checkpoints import WORD_GAIN, build_model
from torch import nn
from transformers import AutoModelForMaskedLM

# How far below 0 the mean logit lies, in standard deviations: measured to leave a weight to 5 to
# 20% of the terms of most texts.
RARITY = 2.75


def build_masked_lm(folder: Path, architecture: str, *, seed: int = 0) -> Path:
    """Write a masked language model and no ``modules.json``, as naver publishes SPLADE.

    Args:
        folder: Where to write; made if it is missing.
        architecture: A key of ``tiny_checkpoints.ARCHITECTURES`` that has a masked-LM head.
        seed: Decides all weights.
    """
    build_model(folder, architecture, AutoModelForMaskedLM, seed=seed)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    _make_terms_rare(model, seed)
    model.save_pretrained(folder)
    return folder


def build_splade(
    folder: Path,
    architecture: str,
    *,
    pooling: Literal["max", "sum"] = "max",
    activation: Literal["relu", "log1p_relu"] = "relu",
    max_seq_length: int = 48,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a SPLADE checkpoint with sentence-transformers' ``SparseEncoder``.

    Args:
        folder: Where to write; made if it is missing.
        architecture: A key of ``tiny_checkpoints.ARCHITECTURES`` that has a masked-LM head.
        pooling: How the weights of a term are joined over the tokens.
        activation: What becomes of a logit: log(1 + relu), or the logarithm of that once more.
        max_seq_length: The number of tokens after which a text is cut.
        prompts: What goes before a text, by the prompt's name.
        default_prompt_name: The prompt used when none is named.
        seed: Decides all weights.
    """
    model = SparseEncoder(
        modules=_document_side(architecture, pooling, activation, max_seq_length, seed),
        prompts=dict(prompts or {}),
        default_prompt_name=default_prompt_name,
        device="cpu",
    )
    model.save(str(folder), create_model_card=False)
    return folder


def build_inference_free(
    folder: Path,
    architecture: str = "distilbert",
    *,
    pooling: Literal["max", "sum"] = "max",
    activation: Literal["relu", "log1p_relu"] = "log1p_relu",
    max_seq_length: int = 48,
    frozen: bool = True,
    backbone_in_root: bool = False,
    seed: int = 0,
) -> Path:
    """Write a Router: documents through SPLADE, queries through a table of term weights alone.

    Args:
        folder: Where to write; made if it is missing.
        architecture: The document side's, a key of ``tiny_checkpoints.ARCHITECTURES``.
        pooling: The document side's.
        activation: The document side's.
        max_seq_length: The number of tokens after which a document is cut.
        frozen: Whether training leaves the table as it is.
        backbone_in_root: Whether the documents' model stands in the root, as OpenSearch has it.
        seed: Decides all weights, those of the table between 0 and 8 as of an IDF.
    """
    document = _document_side(architecture, pooling, activation, max_seq_length, seed)
    tokenizer = document[0].tokenizer
    weights = 8 * torch.rand(len(tokenizer), generator=torch.Generator().manual_seed(seed + 200))
    weights[tokenizer.all_special_ids] = 0
    query = SparseStaticEmbedding(tokenizer=tokenizer, weight=weights, frozen=frozen)
    router = Router.for_query_document(query_modules=[query], document_modules=document)
    model = SparseEncoder(modules=[router], similarity_fn_name="dot", device="cpu")
    model.save(str(folder), create_model_card=False)
    if backbone_in_root:
        _move_to_root(folder, "document_0_MLMTransformer")
    return folder


def _document_side(
    architecture: str, pooling: str, activation: str, max_seq_length: int, seed: int
) -> list[nn.Module]:
    with tempfile.TemporaryDirectory() as scratch:
        backbone = build_masked_lm(Path(scratch), architecture, seed=seed)
        transformer = MLMTransformer(str(backbone), max_seq_length=max_seq_length)
    return [transformer, SpladePooling(pooling, activation)]


def _move_to_root(folder: Path, module: str) -> None:
    for file in (folder / module).iterdir():
        file.rename(folder / file.name)
    (folder / module).rmdir()
    path = folder / "router_config.json"
    routes = path.read_text(encoding="utf-8").replace(f'"{module}"', '""')
    path.write_text(routes, encoding="utf-8")


def _make_terms_rare(model: nn.Module, seed: int) -> None:
    """Give the word vectors, which the head shares, their size, and the head a low bias."""
    random = torch.Generator().manual_seed(seed + 100)
    head = model.get_output_embeddings()
    words = model.get_input_embeddings().weight
    spread = WORD_GAIN * words.shape[1] ** 0.5  # of a product with a normalised vector
    with torch.no_grad():
        words.copy_(WORD_GAIN * torch.randn(words.shape, generator=random))
        head.bias.copy_(torch.randn(len(head.bias), generator=random) - RARITY * spread)
