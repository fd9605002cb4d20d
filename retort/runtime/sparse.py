"""Texts to the weights of terms, and their scores, as ``SparseEncoder`` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import ClassVar

from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.pooling import Floats
from retort.runtime.scores import check_top_k, ranked_positions
from retort.runtime.sparse_encoding import Side, TermEncoder, TermOptions
from retort.runtime.sparse_graph import has_logits, has_weights
from retort.runtime.sparse_settings import has_splade_pooling
from retort.runtime.sparse_terms import Terms, Weights, terms_of, vectors_of
from retort.runtime.sparse_vectors import SparseVector, dot_products


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
        self._encoder = TermEncoder(folder, graph)
        self.prompts = self._encoder.prompts.texts

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family gives the weights of terms."""
        return has_weights(graph) or (has_logits(graph) and has_splade_pooling(folder))

    @property
    def max_length(self) -> int | None:
        """The longest document in tokens, special tokens included; None: without limit."""
        return self._encoder.tokenizer.max_length

    @cached_property
    def dimension(self) -> int:
        """The size of the vocabulary."""
        return self._encoder.dimension()

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
        options = TermOptions(batch_size, prompt_name, prompt, top_k, threshold, show_progress)
        return self._terms(texts, None, options)

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
        options = TermOptions(batch_size, prompt_name, prompt, top_k, threshold, show_progress)
        return self._terms(texts, "query", options)

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
        options = TermOptions(batch_size, prompt_name, prompt, top_k, threshold, show_progress)
        return self._terms(texts, "document", options)

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
        options = TermOptions(batch_size, prompt_name, prompt, top_k, threshold, show_progress)
        return self._encoder.encode(texts, side, options)

    def decode(self, vectors: Iterable[SparseVector]) -> list[Terms]:
        """Return the terms of what :meth:`encode_arrays` gave, as :meth:`encode` does."""
        return [terms_of(vector, self._encoder.tokenizer) for vector in vectors]

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
        left = vectors_of(queries, "query", self._encoder.tokenizer)
        return dot_products(left, vectors_of(documents, "document", self._encoder.tokenizer))

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
        check_top_k(top_k)
        return ranked_positions(self.score(query, documents), top_k)

    def _terms(
        self, texts: str | Sequence[str], side: Side | None, options: TermOptions
    ) -> Terms | list[Terms]:
        terms = self.decode(self._encoder.encode(texts, side, options))
        return terms[0] if isinstance(texts, str) else terms
