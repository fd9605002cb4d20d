"""The outputs of a SPLADE graph, whichever it has, as sparse vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retort.errors import InputError
from retort.runtime.graph import Graph
from retort.runtime.sparse_settings import SpladePooling
from retort.runtime.sparse_vectors import Ids, SparseVector

VECTOR_OUTPUT = "sparse_vector"
LOGITS_OUTPUT = "logits"
LOGITS_RANK = 3
# Anserini's; without a batch axis.
INDEX_OUTPUT, WEIGHT_OUTPUT = "output_idx", "output_weights"


@dataclass(frozen=True)
class SparseGraph:
    """A graph and the output of it that is read.

    Attributes:
        graph: The graph.
        output: ``sparse_vector``, else ``logits``, else ``output_idx``.
        pooling: What follows the logits.
    """

    graph: Graph
    output: str
    pooling: SpladePooling

    @classmethod
    def open(cls, graph: Graph, pooling: SpladePooling) -> SparseGraph:
        """Return the graph with the output that serves most, a batch rather than one text.

        Raises:
            InputError: It has none of them.
        """
        if VECTOR_OUTPUT in graph.outputs:
            return cls(graph, VECTOR_OUTPUT, pooling)
        if has_logits(graph):
            return cls(graph, LOGITS_OUTPUT, pooling)
        if has_weights(graph):
            return cls(graph, INDEX_OUTPUT, pooling)
        raise InputError(
            f"{graph.path} has the outputs {', '.join(graph.outputs)}, but neither {VECTOR_OUTPUT} "
            f"nor {LOGITS_OUTPUT} nor {INDEX_OUTPUT} with {WEIGHT_OUTPUT}: convert the checkpoint "
            "again"
        )

    @property
    def takes_batches(self) -> bool:
        """Whether several texts can be run together."""
        return self.output != INDEX_OUTPUT

    def vectors(self, feeds: Mapping[str, Ids]) -> list[SparseVector]:
        """Return the vector of each row of the inputs, of which there is one without batches."""
        values = self.graph.run(feeds, self.output)
        if self.output == INDEX_OUTPUT:
            # As float32, every id below 2^24 is exact.
            return [SparseVector.of_pairs(values, self.graph.run(feeds, WEIGHT_OUTPUT))]
        if self.output == LOGITS_OUTPUT:
            values = self.pooling.apply(values, feeds["attention_mask"])
        return [SparseVector.of_row(row) for row in values]

    def dimension(self, feeds: Mapping[str, Ids]) -> int | None:
        """Return the size of the vocabulary, which any inputs show; None: the outputs do not."""
        if self.output == INDEX_OUTPUT:
            return None
        return int(self.graph.run(feeds, self.output).shape[-1])


def has_weights(graph: Graph) -> bool:
    """Return whether a graph gives the weights of terms under a name that nothing else has."""
    return VECTOR_OUTPUT in graph.outputs or {INDEX_OUTPUT, WEIGHT_OUTPUT} <= graph.outputs.keys()


def has_logits(graph: Graph) -> bool:
    """Return whether a graph gives logits for each token, as many models do."""
    return graph.outputs.get(LOGITS_OUTPUT) == LOGITS_RANK
