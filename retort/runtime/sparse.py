"""Texts to the weights of terms, and their scores, as ``SparseEncoder`` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from retort.errors import InputError
from retort.runtime.batching import check_text, check_texts, sorted_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.pooling import Floats
from retort.runtime.query_weights import WEIGHTS_FILE, QueryWeights
from retort.runtime.sentence_modules import Prompts
from retort.runtime.sparse_graph import SparseGraph, has_logits, has_weights
from retort.runtime.sparse_settings import SparseSettings, has_own_queries, has_splade_pooling
from retort.runtime.sparse_terms import Terms, Weights, terms_of, vectors_of
from retort.runtime.sparse_tokenizer import SparseTokenizer
from retort.runtime.sparse_vectors import Ids, SparseVector, check_pruning, dot_products

Side = Literal["query", "document"]
SIDES = (None, "query", "document")


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
        settings = SparseSettings.read(folder)
        self._do_lower_case = settings.do_lower_case
        self._prompts = Prompts.read(folder)
        self.prompts = self._prompts.texts
        self._tokenizer = SparseTokenizer.of_graph(folder, graph.path, settings.max_length)
        self._queries = _query_weights(folder, self._tokenizer)
        self._weights = SparseGraph.open(graph, settings.pooling)

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family gives the weights of terms."""
        return has_weights(graph) or (has_logits(graph) and has_splade_pooling(folder))

    @property
    def max_length(self) -> int | None:
        """The longest document in tokens, special tokens included; None: without limit."""
        return self._tokenizer.max_length

    @cached_property
    def dimension(self) -> int:
        """The size of the vocabulary."""
        return self._weights.dimension(self._feeds([""])) or self._tokenizer.dimension

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        top_k: int | None = None,
        threshold: float = 0.0,
        show_progress: bool | None = None,
    ) -> Terms | list[Terms]:
        """Return the terms of texts with their weights: ``SparseEncoder.encode``.

        Args:
            texts: One text or several. White space at both ends is dropped, and what is longer
                than ``max_length`` tokens is cut.
            batch_size: Texts that are run together; texts of like length share a batch.
            prompt_name: The name of the prompt to put before each text; None: the default one.
            prompt: The prompt itself, instead of its name.
            top_k: How many terms of a text are kept, those of the largest weights; None: all.
                SparseEncoder calls it ``max_active_dims``.
            threshold: Weights up to this one are left out.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Returns:
            For each text ``{term: weight}``, the largest weight first. One str gives one, several
            give a list in their order.

        Raises:
            InputError: A text is not a str, the folder has no such prompt, or an option is out of
                its range.
        """
        vectors = self.encode_arrays(
            texts,
            batch_size=batch_size,
            prompt_name=prompt_name,
            prompt=prompt,
            top_k=top_k,
            threshold=threshold,
            show_progress=show_progress,
        )
        terms = self.decode(vectors)
        return terms[0] if isinstance(texts, str) else terms

    def encode_queries(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        top_k: int | None = None,
        threshold: float = 0.0,
        show_progress: bool | None = None,
    ) -> Terms | list[Terms]:
        """Return the terms of queries: ``encode``, by default with the ``query`` prompt.

        Where the checkpoint is inference-free, no model is run: a query has the terms that its
        tokens are, white space as it comes, and their weights are those of the folder's table.
        """
        vectors = self.encode_arrays(
            texts,
            side="query",
            batch_size=batch_size,
            prompt_name=prompt_name,
            prompt=prompt,
            top_k=top_k,
            threshold=threshold,
            show_progress=show_progress,
        )
        terms = self.decode(vectors)
        return terms[0] if isinstance(texts, str) else terms

    def encode_documents(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        top_k: int | None = None,
        threshold: float = 0.0,
        show_progress: bool | None = None,
    ) -> Terms | list[Terms]:
        """Return the terms of documents: ``encode``, by default with the ``document`` prompt."""
        vectors = self.encode_arrays(
            texts,
            side="document",
            batch_size=batch_size,
            prompt_name=prompt_name,
            prompt=prompt,
            top_k=top_k,
            threshold=threshold,
            show_progress=show_progress,
        )
        terms = self.decode(vectors)
        return terms[0] if isinstance(texts, str) else terms

    def encode_arrays(
        self,
        texts: str | Sequence[str],
        *,
        side: Side | None = None,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        top_k: int | None = None,
        threshold: float = 0.0,
        show_progress: bool | None = None,
    ) -> list[SparseVector]:
        """Return ids and weights of each text's terms, in the order of their ids.

        Args:
            texts: Several texts, or one, which is taken for a list of one.
            side: ``query`` or ``document``, as for :meth:`encode_queries` and
                :meth:`encode_documents`; None: neither, as for :meth:`encode`.
            batch_size: As for :meth:`encode`, like everything below.
            prompt_name: The name of a prompt.
            prompt: A prompt.
            top_k: How many terms of a text are kept.
            threshold: Weights up to this one are left out.
            show_progress: Whether to show a progress bar.

        Raises:
            InputError: There is no such side, or as :meth:`encode` does.
        """
        if side not in SIDES:
            raise InputError(f"there is no side {side!r}: choose from query, document and None")
        check_pruning(top_k, threshold)
        name = side if prompt_name is None and prompt is None else prompt_name
        prefix = check_text(self._prompts.choose(name, prompt), "the prompt")
        rows = [prefix + text for text in check_texts(texts)]
        if not self._weights.takes_batches:
            batch_size = min(batch_size, 1)
        vectors: dict[int, SparseVector] = {}
        for batch in sorted_batches([len(row) for row in rows], batch_size, show_progress):
            results = self._vectors([rows[index] for index in batch], side)
            pruned = [vector.pruned(top_k, threshold) for vector in results]
            vectors.update(zip(batch, pruned, strict=True))
        return [vectors[index] for index in range(len(rows))]

    def decode(self, vectors: Iterable[SparseVector]) -> list[Terms]:
        """Return the terms of what :meth:`encode_arrays` gave, as :meth:`encode` does."""
        return [terms_of(vector, self._tokenizer) for vector in vectors]

    def score(
        self, queries: Weights | Iterable[Weights], documents: Weights | Iterable[Weights]
    ) -> Floats:
        """Return the dot product of every query with every document; larger is more alike.

        Args:
            queries: What :meth:`encode_queries` or :meth:`encode_arrays` gave, one or several.
            documents: The same of the documents.

        Returns:
            Float32 ``[queries, documents]``.

        Raises:
            InputError: Something is neither, or has terms that the vocabulary lacks.
        """
        left = vectors_of(queries, "query", self._tokenizer)
        return dot_products(left, vectors_of(documents, "document", self._tokenizer))

    def rank(
        self, query: Weights, documents: Weights | Iterable[Weights], top_k: int | None = None
    ) -> list[tuple[int, float]]:
        """Return the documents' positions and scores for one query, the best first.

        Args:
            query: The weights of one query.
            documents: Those of the documents.
            top_k: How many to return; None: all.

        Raises:
            InputError: There is more than one query, or what :meth:`score` raises.
        """
        check_pruning(top_k, 0)
        scores = self.score(query, documents)
        if len(scores) != 1:
            raise InputError(f"rank takes one query, not {len(scores)}: use score")
        best = np.argsort(-scores[0], kind="stable")[:top_k]
        return [(int(index), float(scores[0, index])) for index in best]

    def _vectors(self, texts: Sequence[str], side: Side | None) -> list[SparseVector]:
        """Return the vectors of one batch."""
        table = self._queries
        if table is not None and (side == "query" or (side is None and table.is_default)):
            return table.vectors(texts)
        return self._weights.vectors(self._feeds(texts))

    def _feeds(self, texts: Sequence[str]) -> dict[str, Ids]:
        cleaned = [text.strip() for text in texts]
        if self._do_lower_case:
            cleaned = [text.lower() for text in cleaned]
        return self._tokenizer.arrays(self._tokenizer.encode(cleaned))


def _query_weights(folder: Folder, tokenizer: SparseTokenizer) -> QueryWeights | None:
    if (folder.path / WEIGHTS_FILE).is_file():
        return QueryWeights.read(folder, tokenizer)
    if has_own_queries(folder):
        raise InputError(
            f"{folder.path}: queries are not encoded by the graph, but {WEIGHTS_FILE} is missing: "
            "convert the checkpoint again"
        )
    return None
