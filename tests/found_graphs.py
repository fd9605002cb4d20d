"""Graphs as other tools write them: no metadata, no ``conversion.json``, other opsets."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import onnx
import torch
from colbert_checkpoints import build_colbert
from converted import workshop
from onnx import TensorProto, helper
from optimum.exporters.onnx import main_export
from pylate.models import ColBERT
from splade_checkpoints import build_masked_lm
from tiny_checkpoints import build_encoder
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _PyLateGraph(nn.Module):
    def __init__(self, model: ColBERT) -> None:
        super().__init__()
        self.backbone = model[0].auto_model
        self.linear = model[1].linear

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        found = self.backbone(input_ids, attention_mask, token_type_ids).last_hidden_state
        return nn.functional.normalize(self.linear(found), p=2, dim=-1)


class _SpladeGraph(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits = self.model(input_ids, attention_mask, token_type_ids).logits
        weights = torch.log1p(torch.relu(logits)) * attention_mask.unsqueeze(-1)
        vector = weights.amax(dim=1)
        found = torch.nonzero(vector)
        return found[:, 1], vector[found[:, 0], found[:, 1]]


@cache
def pylate_export() -> Path:
    """Return a folder as pylate-onnx-export writes it: three inputs, opset 14, no metadata."""
    folder = workshop() / "found" / "pylate-export"
    folder.mkdir(parents=True)
    checkpoint = build_colbert(workshop() / "found" / "colbert", "bert")
    model = ColBERT(str(checkpoint), device="cpu")
    _trace(_PyLateGraph(model.eval()), folder / "model.onnx", {"output": ("batch", "sequence")})
    shutil.copy(checkpoint / "tokenizer.json", folder)
    config = {"model_type": "ColBERT", "uses_token_type_ids": True, "embedding_dim": 16}
    (folder / "onnx_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@cache
def anserini_graph() -> Path:
    """Return a SPLADE graph as Anserini's scripts write it, right for batches of one."""
    path = workshop() / "found" / "anserini" / "splade.onnx"
    path.parent.mkdir(parents=True)
    checkpoint = build_masked_lm(workshop() / "found" / "masked-lm", "bert")
    model = AutoModelForMaskedLM.from_pretrained(checkpoint, attn_implementation="eager")
    outputs = {"output_idx": ("found",), "output_weights": ("found",)}
    _trace(_SpladeGraph(model.eval()), path, outputs)
    return path


@cache
def optimum_export(architecture: str = "bert") -> Path:
    """Return the folder of an encoder that Optimum exported by itself."""
    folder = workshop() / "found" / f"optimum-{architecture}"
    checkpoint = build_encoder(workshop() / "found" / architecture, architecture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main_export(str(checkpoint), folder, task="feature-extraction", do_validation=False)
    return folder


@cache
def without_matrices() -> Path:
    """Return a graph in which there is nothing to quantize or to fuse."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [value], [result])
    opset = helper.make_opsetid("", 17)
    path = workshop() / "found" / "relu.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def with_external_data(graph: Path, folder: Path, name: str = "weights.bin") -> Path:
    """Write a graph into a folder with its tensors in a file of any name beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / graph.name
    onnx.save(
        onnx.load(graph), target, save_as_external_data=True, location=name, size_threshold=64
    )
    return target


def _trace(model: nn.Module, path: Path, outputs: Mapping[str, Sequence[str]]) -> None:
    axes = {name: {0: "batch", 1: "sequence"} for name in TOKEN_INPUTS}
    axes |= {name: dict(enumerate(dims)) for name, dims in outputs.items()}
    example = (torch.ones(1, 8, dtype=torch.int64),) * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(tensor.clone() for tensor in example),
            str(path),
            input_names=list(TOKEN_INPUTS),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=14,
            dynamo=False,
        )
