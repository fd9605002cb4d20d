"""Tiny ColQwen2 and ColPali checkpoints in transformers and in the runtime, made once each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from converted import converted, workshop
from transformers import (
    ColPaliForRetrieval,
    ColPaliProcessor,
    ColQwen2ForRetrieval,
    ColQwen2Processor,
)
from visual_checkpoints import build_colpali, build_colqwen2

from retort.runtime import load
from retort.runtime.folder import Folder
from retort.runtime.visual import VisualModel
from retort.runtime.visual_prompts import VisualPrompts, colpali_prompts, colqwen2_prompts

Array = npt.NDArray[np.float32]

TOLERANCE = 1e-4
QUERIES = [
    "what is it?",
    "",
    "  two  spaces,\n\n\ta tab ",
    "größe 語 ☃ e\u0301 ﬁ \U0001f9ff",
    "<eos> <|im_end|> <loc0003> <seg001> <pad><|endoftext|>",
    "long " * 60,
    "Wo ist es?",
]
OWN_PROMPTS = {"query_prefix": "Find this! "}
QWEN2_PAGE = "<|im_start|><|vision_start|><|image_pad|><|vision_end|> Say what it shows."

VARIANTS: Mapping[str, Callable[[Path], Path]] = {
    "colqwen2": build_colqwen2,
    "colpali": build_colpali,
    "colqwen2 on the right": lambda folder: build_colqwen2(folder, padding_side="right"),
    "colpali on the right": lambda folder: build_colpali(folder, padding_side="right"),
    "colqwen2 with its own prompts": lambda folder: build_colqwen2(
        folder, visual_prompt_prefix=QWEN2_PAGE, **OWN_PROMPTS
    ),
    "colpali with its own prompts": lambda folder: build_colpali(
        folder, visual_prompt_prefix="What is here?", **OWN_PROMPTS
    ),
}
FAMILIES = ("colqwen2", "colpali")
READERS = {"colqwen2": colqwen2_prompts, "colpali": colpali_prompts}
# All that the variants of a family differ in: their weights are the same.
PROCESSOR_FILES = ("processor_config.json", "tokenizer_config.json", "tokenizer.json")


@dataclass(frozen=True)
class Theirs:
    """A checkpoint as transformers uses it."""

    model: Any
    processor: Any

    @classmethod
    def opened(cls, checkpoint: Path) -> Theirs:
        """Return the untouched model, with the slow image processor."""
        is_qwen2 = "Qwen2" in (checkpoint / "processor_config.json").read_text()
        kinds = (ColPaliForRetrieval, ColPaliProcessor)
        model, processor = (ColQwen2ForRetrieval, ColQwen2Processor) if is_qwen2 else kinds
        both = cls(model.from_pretrained(checkpoint).eval(), processor.from_pretrained(checkpoint))
        assert not both.processor.image_processor.is_fast
        return both

    def queries(self, texts: list[str]) -> list[Array]:
        """Return the token embeddings of queries."""
        return self.embeddings(self.processor.process_queries(texts))

    def images(self, images: list[Any]) -> list[Array]:
        """Return the token embeddings of images, each in a batch of its own."""
        rows = [self.processor.process_images([image]) for image in images]
        return [self.embeddings(row)[0] for row in rows]

    def embeddings(self, inputs: Mapping[str, torch.Tensor]) -> list[Array]:
        """Return the rows of the attention mask."""
        with torch.inference_mode():
            embeddings = self.model(**inputs).embeddings
        kept = inputs["attention_mask"].bool()
        return [row[counted].numpy() for row, counted in zip(embeddings, kept, strict=True)]


@dataclass(frozen=True)
class Pair:
    """One checkpoint in both libraries.

    Attributes:
        folder: What Retort converted it to, with a graph of each variant.
        ours: The converted folder in the runtime.
        theirs: The checkpoint in transformers.
    """

    folder: Path
    ours: VisualModel
    theirs: Theirs


def opened(folder: Path, file_name: str | None = None) -> VisualModel:
    """Return a folder as the runtime loads it."""
    model = load(folder, file_name, threads=1)
    assert isinstance(model, VisualModel)
    return model


@cache
def checkpoint_of(variant: str) -> Path:
    """Return the checkpoint of a row of ``VARIANTS``."""
    return VARIANTS[variant](workshop() / f"visual-{list(VARIANTS).index(variant)}")


@cache
def theirs(variant: str) -> Theirs:
    """Return the checkpoint of a row of ``VARIANTS`` in transformers."""
    return Theirs.opened(checkpoint_of(variant))


@cache
def pair(variant: str) -> Pair:
    """Return the checkpoint of a row of ``VARIANTS`` in both libraries."""
    folder = _converted(variant)
    return Pair(folder, opened(folder), theirs(variant))


def _converted(variant: str) -> Path:
    family, *rest = variant.split()
    if not rest:
        return converted(checkpoint_of(family), optimize=0, visual_variant="all").folder
    checkpoint = checkpoint_of(variant)
    folder = Path(shutil.copytree(pair(family).folder, f"{checkpoint}-converted"))
    for name in PROCESSOR_FILES:
        shutil.copyfile(checkpoint / name, folder / name)
    return folder


def prompts(family: str, folder: Path) -> VisualPrompts:
    """Return the prompts of a folder."""
    return READERS[family](Folder(folder))


def assert_same(ours: Sequence[Array], theirs: Sequence[Array]) -> None:
    """Compare token embeddings one by one: as many, of one shape, and equal."""
    assert [tokens.shape for tokens in ours] == [tokens.shape for tokens in theirs]
    assert {tokens.dtype for tokens in ours} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.concatenate(ours), np.concatenate(theirs), atol=TOLERANCE)
