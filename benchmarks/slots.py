"""A MiniLM that tags the slots of sentences, trained in a few minutes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from conversion import installed_model
from seqeval.metrics import f1_score
from training import freeze_all_but, train
from transformers import AutoModelForTokenClassification, AutoTokenizer, BatchEncoding

TRAINED_LAYERS = ("layer.3.", "layer.4.", "layer.5.", "classifier")
LEARNING_RATE = 1.2e-3
BATCH = 16
SKIPPED = -100  # what the cross-entropy of PyTorch leaves out


@dataclass(frozen=True)
class Sentence:
    """Words with a tag for each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_sentences(path: Path) -> list[Sentence]:
    """Return the sentences of a CoNLL file: a word, a tab and its tag on each line."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    pairs = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    return [Sentence(*map(tuple, zip(*rows, strict=True))) for rows in pairs]


def fit(folder: Path, sentences: Sequence[Sentence], steps: int) -> None:
    """Fit a head and the upper layers to the sentences' tags, and save the model."""
    torch.manual_seed(0)
    tags = sorted({tag for sentence in sentences for tag in sentence.tags})
    source = installed_model()
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForTokenClassification.from_pretrained(
        source,
        id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
    ).train()
    freeze_all_but(model, TRAINED_LAYERS)
    drawn = random.Random(0)

    def loss() -> torch.Tensor:
        batch = drawn.sample(sentences, BATCH)
        inputs = tokenize(tokenizer, batch)
        return model(**inputs, labels=_labels(inputs, batch, model.config.label2id)).loss

    train(model, loss, steps, LEARNING_RATE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tokenize(tokenizer: Any, sentences: Sequence[Sentence]) -> BatchEncoding:
    """Return the inputs of sentences that are split into words already."""
    words = [list(sentence.words) for sentence in sentences]
    return tokenizer(
        words, is_split_into_words=True, padding=True, truncation=True, return_tensors="pt"
    )


@torch.no_grad()
def tag_sentences(model: Any, tokenizer: Any, sentences: Sequence[Sentence]) -> list[list[str]]:
    """Return a tag for each word of each sentence: that of its first piece."""
    found = []
    for first in range(0, len(sentences), BATCH):
        inputs = tokenize(tokenizer, sentences[first : first + BATCH])
        best = model(**inputs).logits.argmax(-1).tolist()
        for row, tags in enumerate(best):
            pieces = _first_pieces(inputs.word_ids(row))
            found.append([model.config.id2label[tags[piece]] for piece in pieces])
    return found


def entity_f1_of_slots(sentences: Sequence[Sentence], tags: Sequence[Sequence[str]]) -> float:
    """Return the micro F1 over entities, by seqeval."""
    return float(f1_score([list(sentence.tags) for sentence in sentences], tags))


def _labels(
    inputs: BatchEncoding, sentences: Sequence[Sentence], label2id: dict[str, int]
) -> torch.Tensor:
    labels = torch.full(inputs["input_ids"].shape, SKIPPED)
    for row, sentence in enumerate(sentences):
        pieces = _first_pieces(inputs.word_ids(row))
        labels[row, pieces] = torch.tensor([label2id[tag] for tag in sentence.tags])
    return labels


def _first_pieces(words: Sequence[int | None]) -> list[int]:
    """Return the place of each word's first piece."""
    return [
        place
        for place, word in enumerate(words)
        if word is not None and (place == 0 or word != words[place - 1])
    ]
