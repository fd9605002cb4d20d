"""SPLADE folders made once in a session, and what SparseEncoder answers for their checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from agreement import FP32_TOLERANCE, Tensors, batches, difference, run_graph
from converted import Converted, converted, workshop
from sentence_transformers import SparseEncoder
from sentence_transformers.models import Router
from splade_checkpoints import build_inference_free, build_masked_lm, build_splade

Floats = npt.NDArray[np.float32]
Pooling = Literal["max", "sum"]
Activation = Literal["relu", "log1p_relu"]

ALL_OUTPUTS = ("logits", "output_idx", "output_weights", "sparse_vector")
COUNTED = 1e-3  # weights below it may be there or not by rounding alone
FP32_FILES = ("onnx/model.onnx", "onnx/model_opt1_Float32.onnx")


@dataclass(frozen=True)
class Case:
    """One batch: its inputs, and what SparseEncoder makes of it.

    Attributes:
        name: What kind of batch it is.
        inputs: Int64 ``[batch, sequence]`` by name.
        logits: ``[batch, sequence, vocabulary]``.
        vectors: ``[batch, vocabulary]``.
    """

    name: str
    inputs: Tensors
    logits: Floats
    vectors: Floats

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Which tokens are real, ``[batch, sequence]``."""
        return self.inputs["attention_mask"].astype(bool)


def splade(
    architecture: str, pooling: Pooling = "max", activation: Activation = "relu"
) -> Converted:
    """Return a checkpoint of sentence-transformers, with files made of the optimized graph."""
    return _splade(architecture, pooling, activation)


@cache
def _splade(architecture: str, pooling: Pooling, activation: Activation) -> Converted:
    name = f"splade-{architecture}-{pooling}-{activation}"
    checkpoint = build_splade(
        workshop() / name, architecture, pooling=pooling, activation=activation
    )
    return converted(checkpoint, quantize=["QInt8", "Float16"], file_naming="opt_level")


@cache
def plain() -> Converted:
    """Return a masked language model without modules.json, for consumers of the root too."""
    checkpoint = build_masked_lm(workshop() / "plain-masked-lm", "bert")
    return converted(checkpoint, family="splade", layout="both", quantize=["QInt8"])


@cache
def inference_free() -> Converted:
    """Return a Router, its documents' side in a folder of its own."""
    return converted(build_inference_free(workshop() / "inference-free"), quantize=["QInt8"])


@cache
def sparse_encoder(checkpoint: Path) -> SparseEncoder:
    """Return a checkpoint as sentence-transformers loads it, in float32."""
    settings = {"torch_dtype": torch.float32}
    return SparseEncoder(str(checkpoint), device="cpu", model_kwargs=settings).eval()


def features(model: SparseEncoder, texts: Sequence[str], side: str) -> Tensors:
    """Return SparseEncoder's own tokens, of documents where a Router tells them apart."""
    first = model[0].sub_modules["document"][0] if isinstance(model[0], Router) else model[0]
    usual, first.tokenizer.padding_side = first.tokenizer.padding_side, side
    made = first.tokenize(list(texts))
    first.tokenizer.padding_side = usual
    return {name: value.numpy() for name, value in made.items()}


def answered(model: SparseEncoder, name: str, inputs: Tensors) -> Case:
    """Return a batch with what SparseEncoder answers to it."""
    with torch.inference_mode():
        given = model({key: torch.from_numpy(value) for key, value in inputs.items()})
    return Case(
        name, inputs, given["token_embeddings"].numpy(), given["sentence_embedding"].numpy()
    )


@cache
def cases(checkpoint: Path) -> tuple[Case, ...]:
    """Return batches of 1, 3 and 8, padded on both sides, short and long."""
    model = sparse_encoder(checkpoint)
    made = batches(lambda texts, side: features(model, texts, side))
    return tuple(answered(model, name, inputs) for name, inputs in made.items())


def batches_of(model: SparseEncoder, texts: Sequence[str], size: int) -> Iterator[Case]:
    """Yield texts in batches of one size."""
    for start in range(0, len(texts), size):
        inputs = features(model, texts[start : start + size], "right")
        yield answered(model, f"batch {size}, text {start}", inputs)


def anserini(logits: Floats, mask: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Floats]:
    """Return the terms and weights of one text as Anserini's own graph makes them.

    Args:
        logits: ``[1, sequence, vocabulary]``.
        mask: ``[1, sequence]``.
    """
    weights = (np.log1p(np.maximum(logits, 0)) * mask[..., None]).max(axis=1)
    terms = weights.nonzero()[1]
    return terms, weights[0, terms]


def assert_agrees(path: Path, case: Case) -> None:
    """Check a graph's logits, and its weights and which terms have one, against SparseEncoder."""
    given = run_graph(path, case.inputs)
    where = f"{path.name}: {case.name}"
    assert difference(case.logits, given["logits"], case.mask) <= FP32_TOLERANCE, where
    assert np.abs(case.vectors - given["sparse_vector"]).max() <= FP32_TOLERANCE, where
    assert ((case.vectors > COUNTED) == (given["sparse_vector"] > COUNTED)).all(), where
