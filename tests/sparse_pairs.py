"""Tiny SPLADE checkpoints in both libraries, and the texts that they are compared on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from converted import workshop
from sparse_folders import Pair, converted_pair, with_logits_graph
from splade_checkpoints import build_inference_free, build_splade

from retort.runtime import SparseVector
from retort.texts import validation_texts

TOLERANCE = 1e-4
ODD_TEXTS = (
    "",
    "a",
    "?!... --",
    "  spaces at both ends \n",
    "[MASK] and [SEP] and [PAD]",
    "ΟΔΥΣΣΕΥΣ UND İSTANBUL",
    "\u2603 no piece for this one: \U0001f9ff",
    "again and again and again",
    "long " * 300,
)
TEXTS = [*ODD_TEXTS, *(sample.text for sample in validation_texts())][:60]
PROMPTS = {"query": "what is ", "title": "it says: "}
VARIANTS: Mapping[str, Callable[[Path], Path]] = {
    "max relu": lambda folder: build_splade(folder, "bert", pooling="max", activation="relu"),
    "max log1p_relu": lambda folder: build_splade(
        folder, "bert", pooling="max", activation="log1p_relu"
    ),
    "sum relu": lambda folder: build_splade(folder, "bert", pooling="sum", activation="relu"),
    "sum log1p_relu": lambda folder: build_splade(
        folder, "bert", pooling="sum", activation="log1p_relu"
    ),
    "modernbert": lambda folder: build_splade(folder, "modernbert"),
    "prompted": lambda folder: build_splade(
        folder, "bert", prompts=PROMPTS, default_prompt_name="title"
    ),
    "inference-free": build_inference_free,
}
POOLINGS = ("max relu", "max log1p_relu", "sum relu", "sum log1p_relu")


@cache
def pair(variant: str) -> Pair:
    """Return the checkpoint of a row of ``VARIANTS``, converted, in both libraries."""
    return converted_pair(VARIANTS[variant](workshop() / f"sparse-{list(VARIANTS).index(variant)}"))


@cache
def logits_pair(variant: str) -> Pair:
    """Return the same with a graph that gives the logits alone."""
    return with_logits_graph(pair(variant), workshop() / f"{pair(variant).folder.name}-logits")


def assert_same(ours: list[SparseVector], theirs: torch.Tensor) -> None:
    """Compare vectors text by text: the same terms above 1e-3, and the same weights."""
    expected = theirs.to_dense().numpy()
    actual = np.zeros_like(expected)
    for row, vector in zip(actual, ours, strict=True):
        row[vector.indices] = vector.values
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    np.testing.assert_array_equal(actual > 1e-3, expected > 1e-3)
