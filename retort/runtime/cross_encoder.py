"""Scores of pairs and labels of texts, with a converted cross-encoder or text classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.activations import (
    activation_named,
    default_activation,
    pipeline_activation,
    softmax,
)
from retort.runtime.batching import check_text, check_texts, sorted_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.labels import check_width, label_names_or_numbers
from retort.runtime.pairs import (
    Pair,
    Row,
    check_pair,
    check_pairs,
    check_rows,
    entailment_id,
    reads_pairs,
)
from retort.runtime.scores import LabelScore, RankedDocument, best_first, check_top_k, ranked
from retort.runtime.tokenizer import TextTokenizer

LOGITS_OUTPUT = "logits"
LOGITS_RANK = 2
PLACE = "{}"
ZERO_SHOT_TEMPLATE = f"This example is {PLACE}."

Floats = npt.NDArray[np.float32]


class CrossEncoderModel:
    """A converted reranker, classifier of pairs, or classifier of texts.

    Args:
        folder: The converted folder.
        graph: Its graph.

    Attributes:
        labels: The labels by id.
        activation: The name of what the checkpoint makes of logits by default, see
            :mod:`retort.runtime.activations`.
        reads_pairs: Whether the checkpoint is made for pairs of texts.

    Raises:
        InputError: A file of the folder cannot be used.
    """

    family: ClassVar[str] = "cross_encoder"

    def __init__(self, folder: Folder, graph: Graph) -> None:
        self.graph = graph
        self.labels = label_names_or_numbers(folder)
        config = folder.mapping("config.json")
        self.activation = default_activation(config, len(self.labels))
        self.reads_pairs = reads_pairs(config, self.labels)
        self._classifies_by = pipeline_activation(config, len(self.labels))
        self._tokenizer = TextTokenizer(folder)

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family gives logits for whole texts."""
        del folder
        return graph.outputs.get(LOGITS_OUTPUT) == LOGITS_RANK

    @property
    def max_length(self) -> int | None:
        """The longest text or pair in tokens, special tokens included; None: without limit."""
        return self._tokenizer.max_length

    def predict(
        self,
        pairs: Pair | Sequence[Pair],
        *,
        batch_size: int = 32,
        activation: str | None = None,
        show_progress: bool | None = None,
    ) -> Floats:
        """Return the scores of pairs, equal to those of ``CrossEncoder.predict``.

        Args:
            pairs: Pairs of texts, such as a query and a document; or one pair. Of what is longer
                than ``max_length`` tokens, the longer text is cut.
            batch_size: Pairs that are run together; those of like length share a batch.
            activation: What is made of the logits: ``identity``, ``sigmoid``, ``softmax``, ``tanh``
                or ``relu``. None: what the checkpoint says, else the sigmoid of a single label and
                the logits of several.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Returns:
            Float32 ``[n]`` in the order of the pairs if there is one label, else ``[n, labels]``;
            without the first axis for one pair.

        Raises:
            InputError: A pair is not two str, or the activation is none of those.
        """
        is_one = isinstance(pairs, Sequence) and len(pairs) > 0 and isinstance(pairs[0], str)
        rows = [check_pair(pairs)] if is_one else check_pairs(pairs)
        activate = activation_named(activation or self.activation)
        scores = activate(self._logits(rows, batch_size, show_progress))
        if len(self.labels) == 1:
            scores = scores[:, 0]
        return np.asarray(scores[0]) if is_one else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int = 32,
        activation: str | None = None,
        show_progress: bool | None = None,
    ) -> list[RankedDocument]:
        """Return documents, the best first, equal to ``CrossEncoder.rank``.

        Args:
            query: The query.
            documents: The documents.
            top_k: How many to return; None: all.
            return_documents: Whether to return their texts as well.
            batch_size: See :meth:`predict`.
            activation: See :meth:`predict`.
            show_progress: See :meth:`predict`.

        Raises:
            InputError: The checkpoint has several labels, a text is not a str, or an option cannot
                be used.
        """
        if len(self.labels) != 1:
            raise InputError(
                f"{self.graph.path} has {len(self.labels)} labels, and documents are ranked by "
                "one: use predict or classify"
            )
        check_top_k(top_k)
        check_text(query, "the query")
        texts = check_texts(documents, "document")
        scores = self.predict(
            [(query, text) for text in texts],
            batch_size=batch_size,
            activation=activation,
            show_progress=show_progress,
        )
        return ranked(scores, texts, top_k, return_documents=return_documents)

    def classify(self, text: Row) -> list[LabelScore]:
        """Return all labels of a text or a pair, the best first, as transformers' pipeline does.

        The scores are softmax over the labels; the sigmoid of each where there is only one or the
        checkpoint's ``problem_type`` allows several; the logits where it says regression.

        Raises:
            InputError: The text is not a str nor a pair.
        """
        return self.classify_batch([text])[0]

    def classify_batch(
        self,
        texts: Sequence[Row],
        *,
        batch_size: int = 32,
        show_progress: bool | None = None,
    ) -> list[list[LabelScore]]:
        """Return all labels of each text or pair, see :meth:`classify`.

        Args:
            texts: Texts, pairs of texts, or both.
            batch_size: Texts that are run together; those of like length share a batch.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Raises:
            InputError: A text is not a str nor a pair.
        """
        logits = self._logits(check_rows(texts), batch_size, show_progress)
        scores = activation_named(self._classifies_by)(logits)
        return [best_first(self.labels, row) for row in scores]

    def zero_shot(
        self,
        text: str,
        labels: Sequence[str],
        *,
        template: str = ZERO_SHOT_TEMPLATE,
        multi_label: bool = False,
        batch_size: int = 32,
    ) -> list[LabelScore]:
        """Return labels of the caller's choice, the best first, as transformers' pipeline does.

        Args:
            text: The text.
            labels: The labels to choose from.
            template: A sentence with ``{}`` where a label goes; whether the text entails it is
                what the model tells.
            multi_label: Whether several may hold, each by itself; otherwise the scores sum to 1.
            batch_size: Labels that are run together.

        Raises:
            InputError: The checkpoint has no label of entailment, there are no labels, or the
                template has no place for one.
        """
        entailed = entailment_id(self.labels)
        if entailed is None:
            raise InputError(
                f"{self.graph.path} has the labels {', '.join(self.labels)}, of which none is "
                "entailment: use a checkpoint made for natural language inference"
            )
        names = check_texts(labels, "label")
        if not names or PLACE not in template:
            raise InputError("give at least one label, and a template with {} where it goes")
        check_text(text)
        pairs = [(text, template.replace(PLACE, name)) for name in names]
        logits = self._logits(pairs, batch_size, show_progress=False)
        if multi_label or len(names) == 1:
            # By transformers' rule the last label or the first one is contradiction.
            contradicted = -1 if entailed == 0 else 0
            return best_first(names, softmax(logits[:, [contradicted, entailed]])[:, 1])
        return best_first(names, softmax(logits[:, entailed]))

    def _logits(self, rows: Sequence[Row], batch_size: int, show_progress: bool | None) -> Floats:
        """Return float32 ``[n, labels]`` in the order of the texts."""
        logits = np.empty((len(rows), len(self.labels)), dtype=np.float32)
        lengths = [len(row) if isinstance(row, str) else sum(map(len, row)) for row in rows]
        for batch in sorted_batches(lengths, batch_size, show_progress):
            encodings = self._tokenizer.encode([rows[index] for index in batch])
            values = self.graph.run(self._tokenizer.arrays(encodings), LOGITS_OUTPUT)
            check_width(self.graph, values.shape[-1], self.labels)
            logits[batch] = values
        return logits
