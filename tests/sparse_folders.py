"""SPLADE folders for the tests of the runtime: graphs made by hand, and SparseEncoder's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from converted import converted
from onnx import numpy_helper, parser
from runtime_folders import INPUTS, export_graph, write_json
from sentence_transformers import SparseEncoder
from tokenizers.implementations import BertWordPieceTokenizer
from torch import nn

from retort.runtime import SparseModel, load

Array = npt.NDArray[np.float32]

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "green", "fox", "##es", "dog")
SIZE = len(VOCABULARY)
# The logit of each term for a token; all others are negative.
LOGITS: Mapping[str, Mapping[str, float]] = {
    "[CLS]": {"green": 0.25},
    "red": {"red": 3.0, "blue": 1.0},
    "blue": {"blue": 2.0, "red": 1.0},
    "fox": {"fox": 4.0, "dog": 0.5},
    "##es": {"fox": 4.5, "##es": 0.125},
}
OTHER_LOGIT = -1.0
# Anserini's formula, with every output that a graph may have.
GRAPH = """
<ir_version: 9, opset_import: ["" : 18]>
splade (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask) => () {
    logits = Gather (table, input_ids)
    columns = Unsqueeze (attention_mask, last_axis)
    mask = Cast <to = 1> (columns)
    masked = Mul (logits, mask)
    positive = Relu (masked)
    shifted = Add (positive, one)
    weights = Log (shifted)
    sparse_vector = ReduceMax <keepdims = 0> (weights, middle_axis)
    places = NonZero (sparse_vector)
    output_idx = Gather <axis = 0> (places, column)
    pairs = Transpose (places)
    output_weights = GatherND (sparse_vector, pairs)
}
"""
OUTPUTS: Mapping[str, tuple[int, Sequence[str | int]]] = {
    "logits": (onnx.TensorProto.FLOAT, ("batch", "sequence", SIZE)),
    "output_idx": (onnx.TensorProto.INT64, ("n",)),
    "output_weights": (onnx.TensorProto.FLOAT, ("n",)),
    "sparse_vector": (onnx.TensorProto.FLOAT, ("batch", SIZE)),
}
PAIR = ("output_idx", "output_weights")


def logit_table() -> Array:
    """Return the logits ``[token, term]`` of ``LOGITS``."""
    table = np.full((SIZE, SIZE), OTHER_LOGIT, dtype=np.float32)
    for token, terms in LOGITS.items():
        for term, logit in terms.items():
            table[VOCABULARY.index(token), VOCABULARY.index(term)] = logit
    return table


def write_graph(path: Path, outputs: Sequence[str]) -> None:
    """Write the graph of ``GRAPH`` with some of its outputs."""
    model = parser.parse_model(GRAPH)
    constants = {
        "table": logit_table(),
        "one": np.float32(1),
        "column": np.int64(1),
        "last_axis": np.array([2]),
        "middle_axis": np.array([1]),
    }
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for name in outputs:
        kind, shape = OUTPUTS[name]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def hand_made(folder: Path, outputs: Sequence[str], family: str | None = "splade") -> Path:
    """Write a folder whose terms are those of ``VOCABULARY``, for texts of at most 8 tokens."""
    write_graph(folder / "onnx" / "model.onnx", outputs)
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    BertWordPieceTokenizer(ids, lowercase=True).save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"model_max_length": 8, "pad_token": "[PAD]"})
    if family is not None:
        write_json(folder / "conversion.json", {"family": family})
    return folder


class Logits(nn.Module):
    """A masked language model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return ``[batch, sequence, vocabulary]``."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


@dataclass(frozen=True)
class Pair:
    """One checkpoint in both libraries.

    Attributes:
        folder: What the runtime loads.
        ours: The folder in the runtime.
        theirs: The checkpoint in sentence-transformers.
    """

    folder: Path
    ours: SparseModel
    theirs: SparseEncoder


def converted_pair(checkpoint: Path) -> Pair:
    """Convert a checkpoint; its graph has every output."""
    folder = converted(checkpoint, optimize=0).folder
    return Pair(folder, opened(folder), sparse_encoder(checkpoint))


def with_logits_graph(both: Pair, folder: Path) -> Pair:
    """Copy a converted folder with a plain graph of its masked LM, as others export it."""
    others = ("*.onnx", "conversion.json")
    shutil.copytree(both.folder, folder, ignore=shutil.ignore_patterns(*others))
    model = Logits(both.theirs.transformers_model)
    export_graph(model, folder / "onnx" / "model.onnx", ("logits",), INPUTS[:2])
    return Pair(folder, opened(folder), both.theirs)


def sparse_encoder(checkpoint: Path) -> SparseEncoder:
    """Return a checkpoint in sentence-transformers."""
    return SparseEncoder(str(checkpoint), device="cpu", local_files_only=True)


def opened(path: Path, file_name: str | None = None) -> SparseModel:
    """Return a folder or a graph as the runtime loads it."""
    model = load(path, file_name, threads=1)
    assert isinstance(model, SparseModel)
    return model
