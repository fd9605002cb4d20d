"""Texts to sparse vectors: prompts, tokens, batches, the graph, and queries without a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from retort.errors import InputError
from retort.runtime.batching import check_text, check_texts, in_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.query_weights import WEIGHTS_FILE, QueryWeights
from retort.runtime.sentence_modules import Prompts
from retort.runtime.sparse_graph import SparseGraph
from retort.runtime.sparse_settings import SparseSettings, has_own_queries
from retort.runtime.sparse_tokenizer import SparseTokenizer
from retort.runtime.sparse_vectors import Ids, SparseVector, check_pruning

Side = Literal["query", "document"]
SIDES = (None, "query", "document")


@dataclass(frozen=True)
class TermOptions:
    """How texts are encoded; the fields are what ``SparseModel.encode`` calls by these names."""

    batch_size: int
    prompt_name: str | None
    prompt: str | None
    top_k: int | None
    threshold: float
    show_progress: bool | None


class TermEncoder:
    """What a SPLADE folder makes of texts.

    Args:
        folder: The converted folder, or one with Anserini's vocabulary file beside the graph.
        graph: Its graph.

    Attributes:
        prompts: The folder's prompts.
        tokenizer: Its tokenizer, which knows the terms.

    Raises:
        InputError: A file of the folder cannot be used.
    """

    def __init__(self, folder: Folder, graph: Graph) -> None:
        settings = SparseSettings.read(folder)
        self._do_lower_case = settings.do_lower_case
        self.prompts = Prompts.read(folder)
        self.tokenizer = SparseTokenizer.of_graph(folder, graph.path, settings.max_length)
        self._queries = _query_weights(folder, self.tokenizer)
        self._weights = SparseGraph.open(graph, settings.pooling)

    def dimension(self) -> int:
        """Return the size of the vocabulary."""
        return self._weights.dimension(self._feeds([""])) or self.tokenizer.dimension

    def encode(
        self, texts: str | Sequence[str], side: Side | None, options: TermOptions
    ) -> list[SparseVector]:
        """Return each text's vector; ``SparseModel.encode_arrays`` says how.

        Raises:
            InputError: There is no such side or prompt, a text is not a str, or an option is out
                of its range.
        """
        if side not in SIDES:
            raise InputError(f"there is no side {side!r}: choose from query, document and None")
        check_pruning(options.top_k, options.threshold)
        unnamed = options.prompt_name is None and options.prompt is None
        name = side if unnamed else options.prompt_name
        prefix = check_text(self.prompts.choose(name, options.prompt), "the prompt")
        rows = [prefix + text for text in check_texts(texts)]
        largest = options.batch_size if self._weights.takes_batches else 1
        return in_batches(
            [len(row) for row in rows],
            lambda batch: [
                vector.pruned(options.top_k, options.threshold)
                for vector in self._vectors([rows[index] for index in batch], side)
            ],
            min(options.batch_size, largest),
            options.show_progress,
        )

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
        return self.tokenizer.arrays(self.tokenizer.encode(cleaned))


def _query_weights(folder: Folder, tokenizer: SparseTokenizer) -> QueryWeights | None:
    if (folder.path / WEIGHTS_FILE).is_file():
        return QueryWeights.read(folder, tokenizer)
    if has_own_queries(folder):
        raise InputError(
            f"{folder.path}: queries are not encoded by the graph, but {WEIGHTS_FILE} is missing: "
            "convert the checkpoint again"
        )
    return None
