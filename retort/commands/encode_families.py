"""What ``retort encode`` prints and saves of each kind of model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from retort.commands.encode_inputs import given_sides, given_texts, refuse
from retort.commands.ranking_records import label_records, ranking_records
from retort.commands.scores import scores_record
from retort.commands.sparse_records import sparse_arrays, sparse_records
from retort.commands.visual_records import visual_results
from retort.errors import InputError
from retort.runtime import (
    CrossEncoderModel,
    EmbeddingModel,
    LateInteractionModel,
    SparseModel,
    TokenClassificationModel,
    VisualModel,
)
from retort.runtime.sparse_encoding import Side

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Encoded:
    """What a model makes of the texts or images.

    Attributes:
        records: What is printed, as plain JSON values.
        arrays: What is saved, by name; empty: there are no arrays to save.
    """

    records: Iterator[Mapping[str, Any]]
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@singledispatch
def encoded_by(model: object, options: argparse.Namespace) -> Encoded:
    """Return what a model says of the texts that the options give.

    Raises:
        InputError: If the model has no use for an option.
    """
    raise InputError(f"retort encode cannot print the results of {type(model).__name__}")


@encoded_by.register
def _(model: EmbeddingModel, options: argparse.Namespace) -> Encoded:
    refuse(
        options, ("query", "document"), "for ColBERT folders, SPLADE's and rerankers; give --text"
    )
    refuse(options, ("threshold", "top_k"), "for SPLADE; drop it")
    texts = given_texts(options)
    vectors = model.encode(
        texts,
        batch_size=options.batch_size,
        prompt_name=options.prompt_name,
        pooling=options.pooling,
    )
    records = (
        {"text": text, "shape": list(vector.shape), "embedding": vector.tolist()}
        for text, vector in zip(texts, vectors, strict=True)
    )
    return Encoded(records, {"embeddings": vectors})


@encoded_by.register
def _(model: TokenClassificationModel, options: argparse.Namespace) -> Encoded:
    refuse(
        options, ("query", "document"), "for ColBERT folders, SPLADE's and rerankers; give --text"
    )
    refuse(options, ("threshold", "top_k"), "for SPLADE; drop it")
    refuse(options, ("prompt_name", "pooling"), "for embeddings; drop it")
    refuse(options, ("out",), "for embeddings; without it the entities go to stdout as JSON")
    texts = given_texts(options)
    found = model.entities_batch(texts, batch_size=options.batch_size)
    records = (
        {
            "text": text,
            "entities": [
                {
                    "label": entity.label,
                    "text": entity.text,
                    "start": entity.start,
                    "end": entity.end,
                    "score": round(float(entity.score), 4),
                }
                for entity in entities
            ],
        }
        for text, entities in zip(texts, found, strict=True)
    )
    return Encoded(records)


@encoded_by.register
def _(model: LateInteractionModel, options: argparse.Namespace) -> Encoded:
    refuse(options, ("pooling",), "for folders with one vector for each text; drop it")
    refuse(options, ("threshold", "top_k"), "for SPLADE; drop it")
    queries, documents = given_sides(options)
    settings = {"batch_size": options.batch_size, "prompt_name": options.prompt_name}
    kinds = {
        "query": (queries, model.encode_queries(queries, **settings)),
        "document": (documents, model.encode_documents(documents, **settings)),
    }
    records: list[Mapping[str, Any]] = []
    arrays = {}
    for kind, (texts, embeddings) in kinds.items():
        for index, (text, tokens) in enumerate(zip(texts, embeddings, strict=True)):
            records.append({"kind": kind, "text": text, "shape": list(tokens.shape)})
            arrays[f"{kind}_{index}"] = tokens
    if queries and documents:
        scores = model.score(kinds["query"][1], kinds["document"][1])
        records.append(scores_record(queries, documents, scores))
        arrays["scores"] = scores
    return Encoded(iter(records), arrays)


@encoded_by.register
def _(model: SparseModel, options: argparse.Namespace) -> Encoded:
    refuse(options, ("pooling",), "for folders with one dense vector for each text; drop it")
    texts: dict[Side | None, list[str]] = {}
    if options.query or options.document:
        texts["query"], texts["document"] = given_sides(options)
    else:
        texts[None] = given_texts(options)
    vectors = {
        side: model.encode_arrays(
            rows,
            side=side,
            batch_size=options.batch_size,
            prompt_name=options.prompt_name,
            top_k=options.top_k,
            threshold=options.threshold or 0.0,
        )
        for side, rows in texts.items()
    }
    records = sparse_records(model, texts, vectors)
    arrays = sparse_arrays([vector for row in vectors.values() for vector in row], model.dimension)
    if texts.get("query") and texts.get("document"):
        arrays["scores"] = model.score(vectors["query"], vectors["document"])
        records.append(scores_record(texts["query"], texts["document"], arrays["scores"]))
    return Encoded(iter(records), arrays)


@encoded_by.register
def _(model: VisualModel, options: argparse.Namespace) -> Encoded:
    refuse(options, ("text", "file", "document"), "for folders of text; give --query or --image")
    refuse(options, ("prompt_name", "pooling", "threshold", "top_k"), "for folders of text")
    records, arrays = visual_results(model, options)
    return Encoded(iter(records), arrays)


@encoded_by.register
def _(model: CrossEncoderModel, options: argparse.Namespace) -> Encoded:
    refuse(options, ("prompt_name", "pooling", "threshold"), "for embeddings and SPLADE; drop it")
    refuse(options, ("out",), "for embeddings; without it the scores go to stdout as JSON")
    if len(model.labels) > 1 or not (options.query or options.document):
        refuse(options, ("top_k",), "for SPLADE and for a reranker's documents; drop it")
    if not (options.query or options.document):
        return Encoded(label_records(model, given_texts(options), batch_size=options.batch_size))
    queries, documents = given_sides(options)
    if not (queries and documents):
        raise InputError("a query and documents are scored together; give both")
    records = ranking_records(
        model, queries, documents, top_k=options.top_k, batch_size=options.batch_size
    )
    return Encoded(records)
