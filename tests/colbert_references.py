"""Tiny ColBERT checkpoints as PyLate and as the runtime load them, each made once in a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from colbert_checkpoints import DenseLayer, build_colbert, build_stanford
from converted import converted, workshop
from pylate.models import ColBERT

from retort.runtime import LateInteractionModel, load
from retort.texts import validation_texts

Array = npt.NDArray[np.float32]

TOLERANCE = 1e-4
ODD_TEXTS = (
    "",
    "a",
    "?",
    "?!... --",
    "  spaces at both ends \n",
    "[MASK] and <mask> and [SEP]",
    "ΟΔΥΣΣΕΥΣ UND İSTANBUL",
    "\u2603 no piece for this one: \U0001f9ff",
    "long " * 300,
)
# Short ones, which queries expand and documents pad, and one longer than any length.
TEXTS = [*ODD_TEXTS, *(sample.text for sample in validation_texts() if len(sample.text) < 60)][:50]
PROMPTS = {"query": "what is ", "passage": "they say: "}
SKIPPED = ("the", "a", ".", "nosuchword")
TWO_DENSE = (DenseLayer(24, bias=True, activation="Tanh"), DenseLayer(24, residual=True))

VARIANTS: Mapping[str, Callable[[Path], Path]] = {
    "bert": lambda folder: build_colbert(folder, "bert"),
    "xlm-roberta": lambda folder: build_colbert(folder, "xlm-roberta"),
    "modernbert": lambda folder: build_colbert(folder, "modernbert"),
    "distilbert": lambda folder: build_colbert(folder, "distilbert"),
    "qwen3, padded on the left": lambda folder: build_colbert(folder, "qwen3"),
    "qwen3, on the right": lambda folder: build_colbert(folder, "qwen3", padding_side="right"),
    "left and attending": lambda folder: build_colbert(
        folder, "qwen3", attend_to_expansion_tokens=True
    ),
    "bert on the left": lambda folder: build_colbert(folder, "bert", padding_side="left"),
    "two Dense": lambda folder: build_colbert(folder, "bert", dense=TWO_DENSE),
    "prefix-free": lambda folder: build_colbert(
        folder, "bert", query_prefix="", document_prefix=""
    ),
    "attending": lambda folder: build_colbert(folder, "bert", attend_to_expansion_tokens=True),
    "unexpanded": lambda folder: build_colbert(folder, "bert", do_query_expansion=False),
    "other lengths": lambda folder: build_colbert(
        folder, "bert", query_length=9, document_length=12
    ),
    "skipping words": lambda folder: build_colbert(folder, "bert", skiplist_words=SKIPPED),
    "prompted": lambda folder: build_colbert(
        folder, "bert", prompts=PROMPTS, default_prompt_name="passage"
    ),
    "cased": lambda folder: build_colbert(folder, "modernbert", do_lower_case=False),
    "lowered": lambda folder: build_colbert(folder, "modernbert", do_lower_case=True),
    "Stanford's": build_stanford,
}


@dataclass(frozen=True)
class Pair:
    """One checkpoint in both libraries.

    Attributes:
        folder: What Retort converted it to.
        ours: The converted folder in the runtime.
        theirs: The checkpoint in PyLate.
    """

    folder: Path
    ours: LateInteractionModel
    theirs: ColBERT


def opened(folder: Path) -> LateInteractionModel:
    """Return a folder as the runtime loads it."""
    model = load(folder, threads=1)
    assert isinstance(model, LateInteractionModel)
    return model


def made_pair(checkpoint: Path, **changes: Any) -> Pair:
    """Convert a checkpoint.

    Args:
        checkpoint: What PyLate saved.
        changes: What PyLate's constructor is told beyond what the checkpoint says.
    """
    folder = converted(checkpoint, optimize=0).folder
    return Pair(folder, opened(folder), ColBERT(str(checkpoint), device="cpu", **changes))


@cache
def pair(variant: str) -> Pair:
    """Return the checkpoint of a row of ``VARIANTS`` in both libraries."""
    folder = workshop() / f"colbert-{list(VARIANTS).index(variant)}"
    return made_pair(VARIANTS[variant](folder))


def assert_same(ours: Sequence[Array], theirs: Sequence[Array]) -> None:
    """Compare token embeddings text by text: as many, of one shape, and equal."""
    assert [tokens.shape for tokens in ours] == [tokens.shape for tokens in theirs]
    assert {tokens.dtype for tokens in ours} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.concatenate(ours), np.concatenate(theirs), atol=TOLERANCE)
