"""From labelled characters to labelled word pieces, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from generate import LABELS, Entity, Query
from transformers import BertForTokenClassification, PreTrainedTokenizerBase

TAGS = ("O", *(f"{prefix}-{label}" for label in LABELS for prefix in "BI"))
_TAG_IDS = {tag: number for number, tag in enumerate(TAGS)}
_SKIPPED = -100  # what the cross-entropy of PyTorch leaves out

Offsets = Sequence[tuple[int, int]]


def tag_ids(offsets: Offsets, entities: Iterable[Entity]) -> list[int]:
    """Return one tag id per word piece; pieces without characters get -100.

    Args:
        offsets: The first and the last (exclusive) character of each piece.
        entities: The entities of the same text.
    """
    tags = [_SKIPPED if start == end else 0 for start, end in offsets]
    for entity in entities:
        inside = [
            place
            for place, (start, end) in enumerate(offsets)
            if start < entity.end and end > entity.start and start < end
        ]
        for place in inside:
            tags[place] = _TAG_IDS[f"{'B' if place == inside[0] else 'I'}-{entity.label}"]
    return tags


def entities_from_tags(offsets: Offsets, tags: Sequence[str]) -> tuple[Entity, ...]:
    """Join pieces to entities: ``B-X`` starts one, ``I-X`` goes on with one of the same label."""
    entities: list[Entity] = []
    open_label = ""
    for (start, end), tag in zip(offsets, tags, strict=True):
        if start == end:
            continue
        label = tag[2:]
        if label and tag[0] == "I" and label == open_label:
            entities[-1] = Entity(entities[-1].start, end, label)
        elif label:
            entities.append(Entity(start, end, label))
        open_label = label
    return tuple(entities)


@torch.no_grad()
def predict(
    model: BertForTokenClassification,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 64,
) -> list[tuple[Entity, ...]]:
    """Return the entities that the model finds in each text."""
    found = []
    for first in range(0, len(texts), batch_size):
        batch = list(texts[first : first + batch_size])
        encoded = tokenizer(
            batch, padding=True, truncation=True, return_tensors="pt", return_offsets_mapping=True
        )
        offsets = encoded.pop("offset_mapping").tolist()
        best = model(**encoded).logits.argmax(-1).tolist()
        for row_offsets, row in zip(offsets, best, strict=True):
            tags = [model.config.id2label[number] for number in row]
            found.append(entities_from_tags(row_offsets, tags))
    return found


def entity_f1(queries: Sequence[Query], predicted: Sequence[Iterable[Entity]]) -> float:
    """Return the micro F1 over entities; one counts only with exact ends and the right label."""
    hits = expected = found = 0
    for query, entities in zip(queries, predicted, strict=True):
        right, ours = set(query.entities), set(entities)
        hits, expected, found = hits + len(right & ours), expected + len(right), found + len(ours)
    return 2 * hits / (expected + found)
