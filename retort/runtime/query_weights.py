"""Queries without a model: the weights of their tokens, looked up in a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.pooling import Floats
from retort.runtime.sparse_tokenizer import SparseTokenizer
from retort.runtime.sparse_vectors import Ids, SparseVector
from retort.runtime.windows import text_positions

WEIGHTS_FILE = "query_weights.json"
UNLIMITED = 2**31


@dataclass(frozen=True)
class QueryWeights:
    """The table of ``query_weights.json``: sentence-transformers' ``SparseStaticEmbedding``.

    The file holds ``weights``, a number for each token that has one; ``max_length``, the most
    tokens of a query, to which no special ones are added, or null; and ``default_route``, which is
    ``query`` where a text of no declared side is looked up too.

    Attributes:
        tokenizer: Cuts queries at their length.
        weights: The weights by token id, float32.
        is_default: Whether a text of no declared side is looked up.
    """

    tokenizer: SparseTokenizer
    weights: Floats
    is_default: bool

    @classmethod
    def read(cls, folder: Folder, documents: SparseTokenizer) -> QueryWeights:
        """Return the table of a folder.

        Args:
            folder: The folder.
            documents: Its tokenizer for documents.

        Raises:
            InputError: The file says no weights, or those of unknown tokens, or a wrong length.
        """
        content = folder.mapping(WEIGHTS_FILE)
        path = folder.path / WEIGHTS_FILE
        said = content.get("max_length")
        length = UNLIMITED if said is None else said
        if not isinstance(length, int) or length < 1:
            raise InputError(f"{path}: max_length is {length!r}: convert the checkpoint again")
        return cls(
            # The tokenizer counts special tokens in, which are left out of queries afterwards.
            tokenizer=SparseTokenizer(folder, length + documents.special_count),
            weights=_table(path, content.get("weights"), documents),
            is_default=content.get("default_route") == "query",
        )

    def vectors(self, texts: Sequence[str]) -> list[SparseVector]:
        """Return each text's distinct tokens with their weights, however often they occur."""
        encodings = self.tokenizer.encode(texts)
        return [
            self._vector(np.asarray(encoding.ids, dtype=np.int64)[text_positions(encoding)])
            for encoding in encodings
        ]

    def _vector(self, ids: Ids) -> SparseVector:
        distinct = np.unique(ids)
        return SparseVector.of_pairs(distinct, self.weights[distinct])


def _table(path: Path, said: Any, tokenizer: SparseTokenizer) -> Floats:
    if not isinstance(said, Mapping):
        raise InputError(f"{path} holds no weights by token: convert the checkpoint again")
    unknown = [token for token in said if token not in tokenizer.ids]
    if unknown:
        raise InputError(
            f"{path} weighs {unknown[0]!r}, which is no token of tokenizer.json: convert the "
            "checkpoint again"
        )
    unusable = [token for token, weight in said.items() if not _is_number(weight)]
    if unusable:
        raise InputError(
            f"{path}: the weight of {unusable[0]!r} is no number: convert the checkpoint again"
        )
    table = np.zeros(tokenizer.dimension, dtype=np.float32)
    table[[tokenizer.ids[token] for token in said]] = list(said.values())
    return table


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
