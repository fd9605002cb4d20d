"""``retort encode``: texts or images through a finished folder, as JSON lines or an .npz file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.commands.encode_families import encoded_by
from retort.commands.encode_inputs import refuse
from retort.commands.saved_arrays import check_place, save_arrays
from retort.runtime import VisualModel, load

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


def encode(options: argparse.Namespace) -> Iterator[str]:
    """Run texts or images through a finished folder: JSON lines on stdout, or an .npz file.

    Raises:
        InputError: If the folder or the texts cannot be used.
    """
    model = load(options.folder, options.model_file, threads=options.threads)
    if options.out:
        check_place(options.out)
    if not isinstance(model, VisualModel):
        refuse(options, ("image", "heatmap"), "for ColPali and ColQwen2 folders; drop it")
    encoded = encoded_by(model, options)
    if options.out:
        save_arrays(options.out, encoded.arrays)
        yield str(options.out)
        return
    for record in encoded.records:
        yield json.dumps(record, ensure_ascii=False)
