"""Texts to sparse vectors of terms, and their scores, as ``SparseEncoder`` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, overload

import numpy as np

from retort.errors import InputError
from retort.runtime.batching import check_text, check_texts, sorted_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.pooling import Floats
from retort.runtime.query_weights import WEIGHTS_FILE, QueryWeights
from retort.runtime.sentence_modules import Prompts
from retort.runtime.sparse_settings import SparseSettings, has_own_queries, has_splade_pooling
from retort.runtime.sparse_tokenizer import SparseTokenizer
from retort.runtime.sparse_vectors import SparseVector, check_pruning, dot_products

Side = Literal["query", "document"]
Terms = dict[str, float]
Weights = Mapping[str, float] | SparseVector

VECTOR_OUTPUT = "sparse_vector"
LOGITS_OUTPUT = "logits"
LOGITS_RANK = 3
PAIR_OUTPUTS = ("output_idx", "output_weights")


class SparseModel:
    """A converted SPLADE model: a weight for each term of the vocabulary, most of them 0.

    Args:
        folder: The converted folder, or one with Anserini's vocabulary file beside the graph.
        graph: Its graph.

    Attributes:
        prompts: The prompts by name.

    Raises:
        InputError: A file of the folder cannot be used.
    """

    family: ClassVar[str] = "splade"

    def __init__(self, folder: Folder, graph: Graph) -> None:
        self.graph = graph
        self._settings = SparseSettings.read(folder)
        self._prompts = Prompts.read(folder)
        self.prompts = self._prompts.texts
        self._tokenizer = SparseTokenizer.of_graph(folder, graph.path, self._settings.max_length)
        self._queries = _query_weights(folder, self._tokenizer)
        self._output = _output(graph)

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family gives the weights of terms."""
        has_weights = VECTOR_OUTPUT in graph.outputs or graph.outputs.keys() >= set(PAIR_OUTPUTS)
        has_logits = graph.outputs.get(LOGITS_OUTPUT) == LOGITS_RANK
        return has_weights or (has_logits and has_splade_pooling(folder))

    @property
    def max_length(self) -> int | None:
        """The longest document in tokens, special tokens included; None: without limit."""
        return self._tokenizer.max_length

    @cached_property
    def dimension(self) -> int:
        """The size of the vocabulary that the weights are of."""
        if self._output == PAIR_OUTPUTS[0]:
            return 1 + max(self._tokenizer.tokens)
        feeds = self._tokenizer.arrays(self._tokenizer.encode([""]))
        return int(self.graph.run(feeds, self._output).shape[-1])

    @overload
    def encode(self, texts: str, **options: object) -> Terms: ...
