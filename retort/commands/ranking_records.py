"""Scores and labels of texts and pairs as ``retort encode`` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from retort.runtime import CrossEncoderModel, LabelScore

Record = Mapping[str, Any]


def ranking_records(
    model: CrossEncoderModel,
    queries: Sequence[str],
    documents: Sequence[str],
    *,
    top_k: int | None,
    batch_size: int,
) -> Iterator[Record]:
    """Yield the documents of each query, the best first, or the labels of each pair.

    Args:
        model: A reranker, or a classifier of pairs.
        queries: The first texts.
        documents: The second texts; each goes with each of the first.
        top_k: How many documents of a query to rank; None: all.
        batch_size: Pairs that are run together.
    """
    for query in queries:
        if len(model.labels) == 1:
            ranked = model.rank(
                query, documents, top_k=top_k, batch_size=batch_size, return_documents=True
            )
            for found in ranked:
                yield {"query": query, **found, "score": _rounded(found["score"])}
        else:
            pairs = [(query, document) for document in documents]
            found_labels = model.classify_batch(pairs, batch_size=batch_size)
            for document, labels in zip(documents, found_labels, strict=True):
                yield {"text": query, "text_pair": document, "labels": _told(labels)}


def label_records(
    model: CrossEncoderModel, texts: Sequence[str], *, batch_size: int
) -> Iterator[Record]:
    """Yield the labels of each text, the best first."""
    found = model.classify_batch(texts, batch_size=batch_size)
    for text, labels in zip(texts, found, strict=True):
        yield {"text": text, "labels": _told(labels)}


def _told(labels: Sequence[LabelScore]) -> list[dict[str, Any]]:
    return [{"label": found.label, "score": _rounded(found.score)} for found in labels]


def _rounded(score: float) -> float:
    # Scores near 0 differ in digits that no fixed number of decimals would keep.
    return float(f"{score:.6g}")
