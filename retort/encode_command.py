"""``retort encode``: texts or images through a finished folder, as JSON lines or an .npz file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.errors import InputError
from retort.ranking_records import label_records, ranking_records
from retort.runtime import (
    CrossEncoderModel,
    EmbeddingModel,
    LateInteractionModel,
    SparseModel,
    TokenClassificationModel,
    VisualModel,
    load,
)
from retort.runtime.sparse import Side
from retort.sparse_records import scores_record, sparse_arrays, sparse_records
from retort.visual_records import visual_results

if TYPE_CHECKING:
    import numpy.typing as npt

ENCODE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "folder": {"metavar": "FOLDER", "help": "a converted folder, or a graph in one"},
    "--text": {
        "action": "append",
        "default": [],
        "help": "a text; repeatable; to ColBERT, and beside --query or --document, a document",
    },
    "--file": {"type": Path, "help": "a UTF-8 file with one text on each line"},
    "--query": {
        "action": "append",
        "default": [],
        "help": "a query for ColBERT, SPLADE, ColPali, ColQwen2 or a reranker; repeatable; with "
        "documents or images the scores are printed",
    },
    "--document": {
        "action": "append",
        "default": [],
        "help": "a document for ColBERT, SPLADE or a reranker; repeatable",
    },
    "--image": {
        "action": "append",
        "default": [],
        "help": "an image of a page for ColPali or ColQwen2; repeatable; with queries the scores "
        "are printed",
    },
    "--heatmap": {
        "type": Path,
        "help": "draw to this image file where on the one image the one query is found",
    },
    "--out": {
        "type": Path,
        "help": "write the embeddings to this .npz file: `embeddings`, in order; of ColBERT "
        "`query_0`, `query_1`, …, `document_0`, …, and `scores`; of ColPali and ColQwen2 "
        "`image_0`, … instead of documents; of SPLADE what scipy.sparse.load_npz reads",
    },
    "--threshold": {
        "type": float,
        "default": 0.0,
        "help": "leave out SPLADE's terms up to this weight",
    },
    "--top_k": {
        "type": int,
        "help": "keep at most so many of SPLADE's terms of a text, or of a reranker's documents",
    },
    "--model_file": {"help": "which graph, for example onnx/model_quantized.onnx"},
    "--batch_size": {"type": int, "default": 32, "help": "texts run together"},
    "--image_batch_size": {
        "type": int,
        "default": 1,
        "help": "images run together; each takes much memory",
    },
    "--prompt_name": {"help": "a prompt of the checkpoint, for example query"},
    "--pooling": {"help": "pooling, for a folder that brings none"},
    "--threads": {"type": int, "help": "threads; all cores if unset"},
}


@dataclass(frozen=True)
class Encoded:
    """What a model makes of the texts or images.

    Attributes:
        records: What is printed, as plain JSON values.
        arrays: What is saved, by name; empty: there are no arrays to save.
    """

    records: Iterator[Mapping[str, Any]]
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def encode(options: argparse.Namespace) -> Iterator[str]:
    """Run texts or images through a finished folder: JSON lines on stdout, or an .npz file.

    Raises:
        InputError: If the folder or the texts cannot be used.
    """
    model = load(options.folder, options.model_file, threads=options.threads)
    if options.out and not options.out.absolute().parent.is_dir():
        raise InputError(f"{options.out}: its folder does not exist; make it")
    if not isinstance(model, VisualModel):
        _refuse(options, ("image", "heatmap"), "for ColPali and ColQwen2 folders; drop it")
    encoded = encoded_by(model, options)
    if options.out:
        _save(options.out, encoded.arrays)
        yield str(options.out)
        return
    for record in encoded.records:
        yield json.dumps(record, ensure_ascii=False)


@singledispatch
def encoded_by(model: object, options: argparse.Namespace) -> Encoded:
    """Return what a model says of the texts that the options give.

    Raises:
        InputError: If the model has no use for an option.
    """
    raise InputError(f"retort encode cannot print the results of {type(model).__name__}")


@encoded_by.register
def _(model: EmbeddingModel, options: argparse.Namespace) -> Encoded:
    _refuse(
        options, ("query", "document"), "for ColBERT folders, SPLADE's and rerankers; give --text"
    )
    _refuse(options, ("threshold", "top_k"), "for SPLADE; drop it")
    texts = _texts(options)
    vectors = model.encode(
        texts,
        batch_size=options.batch_size,
        prompt_name=options.prompt_name,
        pooling=options.pooling,
    )
    records = (
        {"text": text, "embedding": vector.tolist()}
        for text, vector in zip(texts, vectors, strict=True)
    )
    return Encoded(records, {"embeddings": vectors})


@encoded_by.register
def _(model: TokenClassificationModel, options: argparse.Namespace) -> Encoded:
    _refuse(
        options, ("query", "document"), "for ColBERT folders, SPLADE's and rerankers; give --text"
    )
    _refuse(options, ("threshold", "top_k"), "for SPLADE; drop it")
    _refuse(options, ("prompt_name", "pooling"), "for embeddings; drop it")
    _refuse(options, ("out",), "for embeddings; without it the entities go to stdout as JSON")
    texts = _texts(options)
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
    _refuse(options, ("pooling",), "for folders with one vector for each text; drop it")
    _refuse(options, ("threshold", "top_k"), "for SPLADE; drop it")
    queries, documents = _sides(options)
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
        records.append(scores_record(scores))
        arrays["scores"] = scores
    return Encoded(iter(records), arrays)


@encoded_by.register
def _(model: SparseModel, options: argparse.Namespace) -> Encoded:
    _refuse(options, ("pooling",), "for folders with one dense vector for each text; drop it")
    texts: dict[Side | None, list[str]] = {}
    if options.query or options.document:
        texts["query"], texts["document"] = _sides(options)
    else:
        texts[None] = _texts(options)
    vectors = {
        side: model.encode_arrays(
            rows,
            side=side,
            batch_size=options.batch_size,
            prompt_name=options.prompt_name,
            top_k=options.top_k,
            threshold=options.threshold,
        )
        for side, rows in texts.items()
    }
    records = sparse_records(model, texts, vectors)
    arrays = sparse_arrays([vector for row in vectors.values() for vector in row], model.dimension)
    if texts.get("query") and texts.get("document"):
        arrays["scores"] = model.score(vectors["query"], vectors["document"])
        records.append(scores_record(arrays["scores"]))
    return Encoded(iter(records), arrays)


@encoded_by.register
def _(model: VisualModel, options: argparse.Namespace) -> Encoded:
    _refuse(options, ("text", "file", "document"), "for folders of text; give --query or --image")
    _refuse(options, ("prompt_name", "pooling", "threshold", "top_k"), "for folders of text")
    records, arrays = visual_results(model, options)
    return Encoded(iter(records), arrays)


@encoded_by.register
def _(model: CrossEncoderModel, options: argparse.Namespace) -> Encoded:
    _refuse(options, ("prompt_name", "pooling", "threshold"), "for embeddings and SPLADE; drop it")
    _refuse(options, ("out",), "for embeddings; without it the scores go to stdout as JSON")
    if not (options.query or options.document):
        return Encoded(label_records(model, _texts(options), batch_size=options.batch_size))
    queries, documents = _sides(options)
    if not (queries and documents):
        raise InputError("a query and documents are scored together; give both")
    records = ranking_records(
        model, queries, documents, top_k=options.top_k, batch_size=options.batch_size
    )
    return Encoded(records)


def _sides(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the queries and the documents, one kind of which there must be."""
    queries, documents = list(options.query), [*options.document, *_given(options)]
    if not (queries or documents):
        raise InputError("no texts; give --query, --document, --text or --file")
    if queries and documents:
        _refuse(options, ("prompt_name",), "for queries or for documents; encode them apart")
    return queries, documents


def _texts(options: argparse.Namespace) -> list[str]:
    texts = _given(options)
    if not texts:
        raise InputError("no texts; give --text or --file")
    return texts


def _given(options: argparse.Namespace) -> list[str]:
    return [*options.text, *_lines(options.file)]


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    for name in names:
        if getattr(options, name):
            raise InputError(f"--{name} is {reason}")


def _save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    import numpy as np

    by_name: dict[str, Any] = dict(arrays)
    try:
        with path.open("wb") as stream:
            np.savez(stream, **by_name)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    # Not splitlines, which also splits at form feeds and Unicode's line separators.
    return lines.split("\n") if lines else []
