"""Tiny rerankers and classifiers of every architecture, and what their untouched models answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from agreement import ALL_TEXTS, TEXTS, Case, Tensors, batches
from converted import Converted, change_json, converted, workshop
from sentence_transformers import CrossEncoder
from tiny_checkpoints import build_model
from transformers import AutoModelForSequenceClassification

ARCHITECTURES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "deberta-v2",
    "modernbert",
    "qwen3",
)
ONE_LABEL = ("LABEL_0",)
SENTIMENT = ("NEGATIVE", "POSITIVE")
INFERENCE = ("contradiction", "entailment", "neutral")

LIST_LENGTH = 20
QUERIES = [text for text in ALL_TEXTS if 10 < len(text) < 80][:10]
LISTS = [
    [ALL_TEXTS[(7 * query + 8 * row) % len(ALL_TEXTS)] for row in range(LIST_LENGTH)]
    for query in range(len(QUERIES))
]
PAIRS = [
    (query, document)
    for query, documents in zip(QUERIES, LISTS, strict=True)
    for document in documents
]

Array = npt.NDArray[Any]


def build_classifier(
    folder: Path,
    architecture: str,
    labels: Sequence[str] = ONE_LABEL,
    *,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write a checkpoint with a head that gives a logit to each label.

    Args:
        folder: Where to write; made if it is missing.
        architecture: A key of ``tiny_checkpoints.ARCHITECTURES``.
        labels: The labels by id.
        config: More of ``config.json``, such as what sentence-transformers writes there.
        seed: Decides all weights.
    """
    settings = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    head = AutoModelForSequenceClassification
    build_model(folder, architecture, head, settings=settings, seed=seed)
    change_json(folder / "config.json", **(config or {}))
    return folder


@cache
def reranker(architecture: str) -> Converted:
    """Return a model with one label, in 8 and 16 bits."""
    checkpoint = build_classifier(workshop() / f"reranker-{architecture}", architecture)
    precisions = ["QInt8", "QUInt8", "Float16"] if architecture == "bert" else ["QUInt8", "Float16"]
    return converted(checkpoint, quantize=precisions)


@cache
def classifier(architecture: str, labels: Sequence[str]) -> Converted:
    """Return a model with several labels, in fp32."""
    name = f"classifier-{architecture}-{len(labels)}"
    return converted(build_classifier(workshop() / name, architecture, labels), optimize=0)


@cache
def original(checkpoint: Path) -> CrossEncoder:
    """Return the untouched model as sentence-transformers loads it."""
    return CrossEncoder(str(checkpoint), device="cpu")


@cache
def expected_logits(checkpoint: Path) -> Array:
    """Return the untouched model's logits of ``PAIRS``."""
    # A model of its own: predict keeps the activation that it is given.
    model = CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Identity())
    return np.asarray(model.predict(PAIRS))


@cache
def pair_cases(checkpoint: Path) -> tuple[Case, ...]:
    """Return batches of pairs, padded on both sides, short and long, with the logits."""
    model = original(checkpoint)
    queries = dict(zip([*TEXTS, max(ALL_TEXTS, key=len)], QUERIES, strict=False))

    def tokenize(texts: Sequence[str], side: str) -> Tensors:
        pairs = [(queries[text], text) for text in texts]
        return dict(
            model.tokenizer(
                pairs, padding=True, padding_side=side, truncation=True, return_tensors="np"
            )
        )

    def logits(inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
            return {"logits": model.model(**tensors).logits.numpy()}

    made = batches(tokenize)
    return tuple(Case(name, made[name], logits(made[name])) for name in made)


def pearson(left: Array, right: Array) -> float:
    """Return the correlation of two arrays of scores."""
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


def share_in_order(expected: Array, actual: Array) -> float:
    """Return the share of pairs of documents, of one list each, that are in the same order."""
    wanted, got = (scores.reshape(-1, LIST_LENGTH) for scores in (expected, actual))
    rows, columns = np.triu_indices(LIST_LENGTH, 1)
    before = np.sign(wanted[:, rows] - wanted[:, columns])
    return float((before == np.sign(got[:, rows] - got[:, columns])).mean())
