"""Texts to token embeddings, and their scores, as PyLate's ``ColBERT`` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from retort.errors import InputError
from retort.runtime.batching import check_text, check_texts, in_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.late_interaction_inputs import TokenLayout
from retort.runtime.late_interaction_settings import LateInteractionSettings, is_colbert
from retort.runtime.maxsim import Floats, maxsim
from retort.runtime.scores import check_top_k, ranked_positions
from retort.runtime.sentence_modules import Prompts

# The second name is there for transformers.js; both are the same tensor.
OUTPUTS = ("output", "token_embeddings")
OUTPUT_RANK = 3


class LateInteractionModel:
    """A converted ColBERT model: a vector for each token, compared by MaxSim.

    Args:
        folder: The converted folder, with PyLate's settings in
            ``config_sentence_transformers.json`` or next-plaid's in ``onnx_config.json``.
        graph: Its graph.

    Attributes:
        prompts: The prompts by name.
        query_length: The longest query in tokens, prefix and expansion included.
        document_length: The longest document in tokens, prefix included.

    Raises:
        InputError: A file of the folder cannot be used.
    """

    family: ClassVar[str] = "colbert"

    def __init__(self, folder: Folder, graph: Graph) -> None:
        self.graph = graph
        settings = LateInteractionSettings.read(folder)
        self._queries = TokenLayout.of_queries(folder, settings)
        self._documents = TokenLayout.of_documents(folder, settings)
        self.query_length = self._queries.length
        self.document_length = self._documents.length
        self._prompts = Prompts.read(folder)
        self.prompts = self._prompts.texts
        self._output = _output(graph)

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family gives a ColBERT's token embeddings."""
        return is_colbert(folder) or graph.outputs.get(OUTPUTS[0]) == OUTPUT_RANK

    @cached_property
    def dimension(self) -> int:
        """The length of a token's vector."""
        return int(self._run(self._queries, [""])[0].shape[1])

    def encode_queries(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        show_progress: bool | None = None,
    ) -> Floats | list[Floats]:
        """Return the token embeddings of queries: PyLate's ``encode(texts, is_query=True)``.

        Args:
            texts: One query or several. White space at both ends is dropped, and what is longer
                than ``query_length`` tokens is cut.
            batch_size: Texts that are run together; texts of like length share a batch.
            prompt_name: The name of the prompt to put before each text; None: the default one.
            prompt: The prompt itself, instead of its name.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Returns:
            For each text float32 ``[tokens, dimension]``, of unit length: ``query_length`` tokens
            where the checkpoint expands its queries, else as many as the text has. One str gives
            one array, several give a list in their order.

        Raises:
            InputError: A text is not a str, or the folder has no such prompt.
        """
        prefix = self._prompts.choose(prompt_name, prompt)
        return self._encode(self._queries, texts, prefix, batch_size, show_progress)

    def encode_documents(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        show_progress: bool | None = None,
    ) -> Floats | list[Floats]:
        """Return the token embeddings of documents: PyLate's ``encode(texts, is_query=False)``.

        Args:
            texts: One document or several. White space at both ends is dropped, and what is longer
                than ``document_length`` tokens is cut.
            batch_size: Texts that are run together; texts of like length share a batch.
            prompt_name: The name of the prompt to put before each text; None: the default one.
            prompt: The prompt itself, instead of its name.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Returns:
            For each text float32 ``[tokens, dimension]``, of unit length, without the tokens of
            the checkpoint's skiplist. One str gives one array, several give a list in their order.

        Raises:
            InputError: A text is not a str, or the folder has no such prompt.
        """
        prefix = self._prompts.choose(prompt_name, prompt)
        return self._encode(self._documents, texts, prefix, batch_size, show_progress)

    def score(
        self, queries: Floats | Sequence[Floats], documents: Floats | Sequence[Floats]
    ) -> Floats:
        """Return the MaxSim of every query with every document; larger is more alike.

        Args:
            queries: Token embeddings ``[tokens, dimension]`` of each query, or of a single one.
            documents: The same of the documents.

        Returns:
            Float32 ``[queries, documents]``; 0 where either has no tokens.

        Raises:
            InputError: Something is no matrix of numbers, or the dimensions differ.
        """
        return maxsim(queries, documents)

    def rank(
        self,
        query: Floats | Sequence[Floats],
        documents: Floats | Sequence[Floats],
        top_k: int | None = None,
    ) -> list[tuple[int, float]]:
        """Return the documents' positions and scores for one query, the best first.

        Args:
            query: The token embeddings ``[tokens, dimension]`` of one query, or a list of it alone.
            documents: Those of the documents.
            top_k: How many to return; None: all.

        Raises:
            InputError: There is more than one query, or what :meth:`score` raises.
        """
        check_top_k(top_k)
        return ranked_positions(self.score(query, documents), top_k)

    def _encode(
        self,
        layout: TokenLayout,
        texts: str | Sequence[str],
        prompt: str,
        batch_size: int,
        show_progress: bool | None,
    ) -> Floats | list[Floats]:
        prefix = check_text(prompt, "the prompt")
        rows = [prefix + text for text in check_texts(texts)]
        embeddings = in_batches(
            _pylate_order(rows),
            lambda batch: self._run(layout, [rows[index] for index in batch]),
            batch_size,
            show_progress,
        )
        return embeddings[0] if isinstance(texts, str) else embeddings

    def _run(self, layout: TokenLayout, texts: Sequence[str]) -> list[Floats]:
        """Return the token embeddings of one batch."""
        feeds = layout.feeds(texts)
        tokens = self.graph.run(feeds, self._output)
        return [row[kept] for row, kept in zip(tokens, layout.counted(feeds), strict=True)]


def _output(graph: Graph) -> str:
    for name in OUTPUTS:
        if graph.outputs.get(name) == OUTPUT_RANK:
            return name
    raise InputError(
        f"{graph.path} has the outputs {', '.join(graph.outputs)}, but no token embeddings named "
        f"{' or '.join(OUTPUTS)}: convert the checkpoint again"
    )


def _pylate_order(texts: Sequence[str]) -> list[int]:
    """Return lengths that sort the texts as PyLate does, whose sort leaves ties in any order.

    Where the padding is on the left, the prefix stands before it, and a text's embeddings depend
    on the texts in its batch.
    """
    order = np.argsort([-len(text) for text in texts])
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order), 0, -1)
    return ranks.tolist()
