"""Texts that no recipe has seen, and what a MiniLM's graph makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from eight_bit_files import GraphFile
from measuring import open_for_measuring, open_graph
from xquad import Floats, Retrieval, read_texts

from retort.runtime.embedding import EmbeddingModel
from retort.runtime.folder import Folder
from retort.runtime.sentence_modules import TRANSFORMER_CONFIGS
from retort.runtime.tokenizer import TextTokenizer
from retort.texts import validation_texts

SENTENCES, PARAGRAPHS, BATCH, SEED = 200, 60, 8, 0
TEXT_OUTPUT, TOKEN_OUTPUT = "sentence_embedding", "last_hidden_state"


@dataclass(frozen=True)
class Vectors:
    """What a file makes of the held-out texts.

    Attributes:
        texts: Of each text in its batch, ``[texts, dim]``.
        tokens: Of all their real tokens, ``[tokens, dim]``.
        alone: Of each text in a batch of its own, ``[texts, dim]``.
        queries: Of the questions, ``[queries, dim]``.
        documents: Of the paragraphs, ``[documents, dim]``.
    """

    texts: Floats
    tokens: Floats
    alone: Floats
    queries: Floats
    documents: Floats


@dataclass(frozen=True)
class Material:
    """What files are measured on.

    Attributes:
        folder: A converted folder with the tokenizer and the portable fp32 graph.
        texts: The held-out texts.
        retrieval: Questions, paragraphs and answers.
    """

    folder: Path
    texts: Sequence[str]
    retrieval: Retrieval


def held_out_texts(data: Path) -> list[str]:
    """Return English texts, short and long in random order, without those that Retort ships."""
    shipped = {text.text for text in validation_texts()}
    drawn = random.Random(SEED)
    texts = []
    sources = sorted((data / "tatoeba").glob("*.eng")), [data / "xquad" / "en" / "corpus.jsonl"]
    for paths, count in zip(sources, (SENTENCES, PARAGRAPHS), strict=True):
        found = dict.fromkeys(text for path in paths for text in read_texts(path))
        texts += drawn.sample([text for text in found if text not in shipped], count)
    drawn.shuffle(texts)
    return texts


def encode(material: Material, file: GraphFile, *, exact: bool) -> Vectors:
    """Return what a file makes of all texts."""
    session = open_for_measuring(file.path, exact=exact)
    batched = [
        run_batch(session, feeds) for feeds in inputs(material.folder, material.texts, BATCH)
    ]
    alone = [
        session.run([TEXT_OUTPUT], _asked(session, feeds))[0]
        for feeds in inputs(material.folder, material.texts, 1)
    ]
    model = EmbeddingModel(Folder(material.folder), open_graph(file.path, exact=exact))
    return Vectors(
        np.concatenate([vectors for vectors, _ in batched]),
        np.concatenate([tokens for _, tokens in batched]),
        np.concatenate(alone),
        model.encode(material.retrieval.queries),
        model.encode(material.retrieval.documents),
    )


def inputs(
    folder: Path, texts: Sequence[str], batch_size: int
) -> Iterator[dict[str, npt.NDArray[np.int64]]]:
    """Yield the inputs of texts, in their order, so that lengths are mixed in each batch."""
    converted = Folder(folder)
    limit = converted.mapping(*TRANSFORMER_CONFIGS).get("max_seq_length")
    tokenizer = TextTokenizer(converted, limit)
    for first in range(0, len(texts), batch_size):
        yield tokenizer.arrays(tokenizer.encode(texts[first : first + batch_size]))


def run_batch(session: Any, feeds: Mapping[str, npt.NDArray[np.int64]]) -> tuple[Floats, Floats]:
    """Return the vectors of a batch's texts, and those of its real tokens."""
    vectors, tokens = session.run([TEXT_OUTPUT, TOKEN_OUTPUT], _asked(session, feeds))
    return vectors, tokens[feeds["attention_mask"].astype(bool)]


def _asked(session: Any, feeds: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, Any]:
    return {value.name: feeds[value.name] for value in session.get_inputs()}
