"""Tiny ColBERT checkpoints, saved by PyLate, and one in the layout of Stanford's ColBERT."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pylate.models import ColBERT
from pylate.models import Dense as PyLateDense
from safetensors.torch import load_file, save_file
from sentence_transformers.models import Transformer
from tiny_checkpoints import HIDDEN_SIZE, WORD_GAIN, build_encoder, randomize
from torch import nn

EMBEDDING_DIM = 16
# BERT's vocabulary has spare tokens of these names, and Stanford's ColBERT takes the first two.
STANFORD_PREFIXES = ("[unused0]", "[unused1]")


@dataclass(frozen=True)
class DenseLayer:
    """A Dense module after the backbone.

    Attributes:
        width: The length of the vectors that it gives.
        bias: Whether it adds a bias.
        activation: The name of its activation in ``torch.nn``.
        residual: Whether its input is added to what it gives.
    """

    width: int
    bias: bool = False
    activation: str = "Identity"
    residual: bool = False


PROJECTION = DenseLayer(EMBEDDING_DIM)


def build_colbert(
    folder: Path,
    architecture: str,
    *,
    dense: Sequence[DenseLayer | tuple[int, bool, str, bool]] = (PROJECTION,),
    query_prefix: str = "[Q] ",
    document_prefix: str = "[D] ",
    query_length: int = 16,
    document_length: int = 40,
    do_query_expansion: bool = True,
    attend_to_expansion_tokens: bool = False,
    skiplist_words: Sequence[str] | None = None,
    do_lower_case: bool = False,
    padding_side: str | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a ColBERT checkpoint with PyLate.

    Args:
        folder: Where to write; made if it is missing.
        architecture: A key of ``tiny_checkpoints.ARCHITECTURES``.
        dense: The Dense modules in order, as ``DenseLayer`` or its fields.
        query_prefix: The token that marks a query; empty: none.
        document_prefix: The token that marks a document; empty: none.
        query_length: The tokens of a query, expansion included.
        document_length: The tokens after which a document is cut.
        do_query_expansion: Whether queries are filled up to ``query_length``.
        attend_to_expansion_tokens: Whether a query's other tokens see those that fill it up.
        skiplist_words: Tokens left out of documents; None: PyLate's, ASCII punctuation.
        do_lower_case: Whether texts are lowered before they are tokenized.
        padding_side: ``left`` or ``right``; None: that of the architecture's tokenizer.
        prompts: What goes before a text, by the prompt's name.
        default_prompt_name: The prompt used when none is named.
        seed: Decides all weights.
    """
    layers = [row if isinstance(row, DenseLayer) else DenseLayer(*row) for row in dense]
    with tempfile.TemporaryDirectory() as scratch:
        backbone = build_encoder(Path(scratch), architecture, seed=seed)
        transformer = Transformer(str(backbone), do_lower_case=do_lower_case)
    if padding_side is not None:
        transformer.tokenizer.padding_side = padding_side
    model = ColBERT(
        modules=[transformer, *_dense_modules(layers, seed)],
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        query_length=query_length,
        document_length=document_length,
        do_query_expansion=do_query_expansion,
        attend_to_expansion_tokens=attend_to_expansion_tokens,
        skiplist_words=None if skiplist_words is None else list(skiplist_words),
        prompts=dict(prompts or {}),
        default_prompt_name=default_prompt_name,
        device="cpu",
    )
    _draw_prefixes(model, seed)
    model.save(str(folder), create_model_card=False)
    return folder


def build_stanford(
    folder: Path,
    *,
    query_maxlen: int = 16,
    doc_maxlen: int = 40,
    attend_to_mask_tokens: bool = False,
    seed: int = 0,
) -> Path:
    """Write a BERT with its projection in one file, as Stanford's ColBERT publishes them.

    Args:
        folder: Where to write; made if it is missing.
        query_maxlen: The tokens of a query, expansion included.
        doc_maxlen: The tokens after which a document is cut.
        attend_to_mask_tokens: Whether a query's other tokens see those that fill it up.
        seed: Decides all weights.
    """
    build_encoder(folder, "bert", seed=seed)
    _add_unused_tokens(folder)
    (projection,) = _dense_modules([PROJECTION], seed)
    tensors = {f"bert.{name}": value for name, value in _weights(folder).items()}
    tensors["linear.weight"] = projection.linear.weight.detach()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write_json(folder / "config.json", config | {"architectures": ["HF_ColBERT"]})
    settings = {
        "query_token_id": STANFORD_PREFIXES[0],
        "doc_token_id": STANFORD_PREFIXES[1],
        "query_token": "[Q]",
        "doc_token": "[D]",
        "query_maxlen": query_maxlen,
        "doc_maxlen": doc_maxlen,
        "attend_to_mask_tokens": attend_to_mask_tokens,
        "dim": EMBEDDING_DIM,
        "similarity": "cosine",
        "mask_punctuation": True,
    }
    _write_json(folder / "artifact.metadata", settings)
    return folder


def _dense_modules(layers: Sequence[DenseLayer], seed: int) -> list[PyLateDense]:
    widths = [HIDDEN_SIZE, *(layer.width for layer in layers)]
    modules = [
        PyLateDense(
            before,
            layer.width,
            bias=layer.bias,
            activation_function=getattr(nn, layer.activation)(),
            use_residual=layer.residual,
        )
        for before, layer in zip(widths[:-1], layers, strict=True)
    ]
    for index, module in enumerate(modules):
        randomize(module, seed + index + 1)
    return modules


def _draw_prefixes(model: ColBERT, seed: int) -> None:
    """Give the prefixes' word vectors, the last rows, values that the seed decides."""
    words = model[0].auto_model.get_input_embeddings().weight
    known = [model.query_prefix_id, model.document_prefix_id]
    rows = [row for row in known if row is not None]
    random = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        words[rows] = WORD_GAIN * torch.randn(len(rows), words.shape[1], generator=random)


def _add_unused_tokens(folder: Path) -> None:
    """Rename the last two pieces of a BERT vocabulary as its unused tokens are called."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    pieces = sorted(content["model"]["vocab"].items(), key=lambda piece: piece[1])
    kept = pieces[: -len(STANFORD_PREFIXES)]
    unused = [
        (name, row) for name, (_, row) in zip(STANFORD_PREFIXES, pieces[len(kept) :], strict=True)
    ]
    content["model"]["vocab"] = dict([*kept, *unused])
    _write_json(path, content)
    names = [name for name, _ in [*kept, *unused]]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
