"""Texts to named entities, with a converted token classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from retort.errors import InputError
from retort.runtime.activations import softmax
from retort.runtime.batching import check_texts, in_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.labels import check_width, label_names
from retort.runtime.spans import AGGREGATIONS, Entity, TaggedWord, TagScheme, tag_words
from retort.runtime.tokenizer import TextTokenizer
from retort.runtime.windows import merge_offsets, merge_windows, text_positions
from retort.runtime.words import Span, attach_pieces, given_spans, split_words

LOGITS_OUTPUT = "logits"
WINDOW_OVERLAP = 0.25
LOGITS_RANK = 3

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Source:
    """What the caller gave: a text, and its words if they were given apart."""

    text: str
    given: tuple[Span, ...] | None = None


@dataclass(frozen=True)
class _TaggedText:
    """A text and its words, tagged."""

    text: str
    words: tuple[TaggedWord, ...]


class TokenClassificationModel:
    """A converted token classifier, for named entities or slots.

    A word's tag is that of its first piece, as token classifiers are trained; see
    :mod:`retort.runtime.words` for what a word is, and :class:`retort.runtime.spans.TagScheme`
    for the tags. Texts longer than the model's window are read in windows that overlap by a
    quarter, and each token's prediction is taken from the window in which it is farthest from an
    edge, so that no entity is cut or found twice.

    Args:
        folder: The converted folder.
        graph: Its graph.

    Attributes:
        labels: The tags by id.

    Raises:
        InputError: A file of the folder cannot be used, or ``config.json`` has no ``id2label``.
    """

    family: ClassVar[str] = "token_classification"

    def __init__(self, folder: Folder, graph: Graph) -> None:
        self.graph = graph
        self.labels = label_names(folder)
        self._scheme = TagScheme(self.labels)
        self._tokenizer = TextTokenizer(folder, overlap=WINDOW_OVERLAP)

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family gives logits for tokens that have names."""
        has_names = "id2label" in folder.mapping("config.json")
        return has_names and graph.outputs.get(LOGITS_OUTPUT) == LOGITS_RANK

    @property
    def max_length(self) -> int | None:
        """The length of a window in tokens, special tokens included; None: without limit."""
        return self._tokenizer.max_length

    def entities(self, text: str | Sequence[str], *, aggregation: str = "first") -> list[Entity]:
        """Return the entities of one text, in order.

        Args:
            text: The text, or its words.
            aggregation: How a word's pieces make its tag: the ``first`` one's probabilities, the
                ``average`` of all, or those of the surest one (``max``).

        Raises:
            InputError: The text is not a str nor a sequence of str.
        """
        return self.entities_batch([text], aggregation=aggregation)[0]

    def entities_batch(
        self,
        texts: Sequence[str | Sequence[str]],
        *,
        batch_size: int = 32,
        aggregation: str = "first",
        show_progress: bool | None = None,
    ) -> list[list[Entity]]:
        """Return the entities of each text.

        Args:
            texts: The texts, each a str or a sequence of its words.
            batch_size: Texts, or windows of texts, that are run together.
            aggregation: See :meth:`entities`.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Raises:
            InputError: A text is not a str nor a sequence of str.
        """
        tagged = self._tagged(texts, batch_size, aggregation, show_progress)
        return [self._scheme.entities(item.text, item.words) for item in tagged]

    def extract(self, text: str | Sequence[str], *, aggregation: str = "first") -> dict[str, str]:
        """Return the text of each label: of its entity with the highest score, else its first."""
        best: dict[str, Entity] = {}
        for entity in self.entities(text, aggregation=aggregation):
            if entity.label not in best or entity.score > best[entity.label].score:
                best[entity.label] = entity
        return {label: entity.text for label, entity in best.items()}

    def tags(
        self, text: str | Sequence[str], *, aggregation: str = "first"
    ) -> list[tuple[str, str]]:
        """Return the words of one text with their tags, such as ``("Bangalore", "B-SRC")``."""
        return self.tags_batch([text], aggregation=aggregation)[0]

    def tags_batch(
        self,
        texts: Sequence[str | Sequence[str]],
        *,
        batch_size: int = 32,
        aggregation: str = "first",
        show_progress: bool | None = None,
    ) -> list[list[tuple[str, str]]]:
        """Return the words of each text with their tags; see :meth:`entities_batch`.

        Words that were given come back one for one, in order.
        """
        tagged = self._tagged(texts, batch_size, aggregation, show_progress)
        return [
            [(item.text[word.start : word.end], word.tag) for word in item.words] for item in tagged
        ]

    def _tagged(
        self,
        texts: Sequence[str | Sequence[str]],
        batch_size: int,
        aggregation: str,
        show_progress: bool | None,
    ) -> list[_TaggedText]:
        if aggregation not in AGGREGATIONS:
            known = ", ".join(AGGREGATIONS)
            raise InputError(f"there is no aggregation {aggregation!r}: choose from {known}")
        sources = _sources(texts)

        def tag(batch: list[int]) -> Iterator[_TaggedText]:
            encodings = self._tokenizer.encode([sources[index].text for index in batch])
            windows = [[encoding, *encoding.overflowing] for encoding in encodings]
            probabilities = self._probabilities(windows, batch_size)
            for index, own, values in zip(batch, windows, probabilities, strict=True):
                yield self._tag(sources[index], own, values, aggregation)

        lengths = [len(source.text) for source in sources]
        return in_batches(lengths, tag, batch_size, show_progress)

    def _tag(
        self, source: _Source, windows: Sequence[Encoding], values: Floats, aggregation: str
    ) -> _TaggedText:
        spans = split_words(source.text) if source.given is None else source.given
        offsets = merge_offsets(windows, self._tokenizer.step or 0)
        words = attach_pieces(source.text, spans, offsets, may_merge=source.given is None)
        tagged = tag_words(words, values, self.labels, aggregation)
        # Words given apart have a space between them, so nothing joins those.
        tagged = self._scheme.join_compounds(source.text, tagged)
        return _TaggedText(source.text, tuple(tagged))

    def _probabilities(
        self, windows: Sequence[Sequence[Encoding]], batch_size: int
    ) -> list[Floats]:
        """Return the probabilities of each text's tokens, ``[tokens, labels]``."""
        flat = [window for own in windows for window in own]
        lengths = [len(window.ids) for window in flat]

        def run(batch: list[int]) -> Iterator[Floats]:
            feeds = self._tokenizer.arrays([flat[index] for index in batch])
            logits = self.graph.run(feeds, LOGITS_OUTPUT)
            check_width(self.graph, logits.shape[-1], self.labels)
            for row, index in zip(logits, batch, strict=True):
                tokens = self._tokenizer.place(lengths[index], len(row))
                yield softmax(row[tokens][text_positions(flat[index])])

        ordered = iter(in_batches(lengths, run, batch_size, show_progress=False))
        step = self._tokenizer.step or 0
        return [merge_windows([next(ordered) for _ in own], step) for own in windows]


def _sources(texts: Sequence[str | Sequence[str]]) -> list[_Source]:
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        kind = type(texts).__name__
        raise InputError(f"texts must be a sequence of texts, not {kind}: one goes to entities")
    sources = []
    for index, text in enumerate(texts):
        if isinstance(text, str):
            sources.append(_Source(text))
        else:
            words = check_texts(text, f"text {index}, word")
            sources.append(_Source(" ".join(words), tuple(given_spans(words))))
    return sources
