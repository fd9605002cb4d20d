"""From the tag of each word to entities: BIO, BIOES, BILOU, BMES, and tags without a prefix."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from retort.runtime.words import Word, is_word_character

Floats = npt.NDArray[np.float32]

OUTSIDE = "O"
STARTS = frozenset("BSU")
ENDS = frozenset("ESLU")
HYPHENS = frozenset("-\u2010\u2011")
NUMBER_MARKS = frozenset(".,:/")

_PREFIXED = re.compile(r"([BIEMSLU])[-_](.+)", re.DOTALL)


@dataclass(frozen=True)
class TaggedWord:
    """A word of a text with the tag that the model gave it.

    Attributes:
        start: Its first character.
        end: The character after its last one.
        tag: The tag with its prefix, such as ``B-SRC``.
        score: The probability of the tag, 0 to 1.
    """

    start: int
    end: int
    tag: str
    score: float


@dataclass(frozen=True)
class Entity:
    """A named part of a text.

    Attributes:
        label: What it is, without prefix, such as ``SRC``.
        text: The characters ``start`` to ``end`` of the text.
        start: Its first character. For words given apart, in ``" ".join(words)``.
        end: The character after its last one.
        score: The mean probability of its words' tags, 0 to 1.
        start_word: Its first word: a position in the words given, or in what ``tags`` returns.
        end_word: The word after its last one.
    """

    label: str
    text: str
    start: int
    end: int
    score: float
    start_word: int
    end_word: int


def _first(pieces: Floats) -> Floats:
    return np.asarray(pieces[0])


def _average(pieces: Floats) -> Floats:
    return np.asarray(pieces.mean(axis=0), dtype=np.float32)


def _surest(pieces: Floats) -> Floats:
    return np.asarray(pieces[pieces.max(axis=1).argmax()])


# From the probabilities of a word's pieces, [pieces, labels], to those of the word, [labels].
AGGREGATIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "first": _first,
    "average": _average,
    "max": _surest,
}


def tag_words(
    words: Iterable[Word], probabilities: Floats, labels: Sequence[str], aggregation: str
) -> list[TaggedWord]:
    """Return the words with their tags.

    Args:
        words: The words; one without pieces is outside.
        probabilities: ``[pieces, labels]`` of the whole text.
        labels: The tag of each column.
        aggregation: A key of :data:`AGGREGATIONS`.
    """
    tagged = []
    for word in words:
        tag, score = OUTSIDE, 1.0
        if word.pieces:
            values = AGGREGATIONS[aggregation](probabilities[list(word.pieces)])
            best = int(values.argmax())
            tag, score = labels[best], float(values[best])
        tagged.append(TaggedWord(word.start, word.end, tag, score))
    return tagged


class TagScheme:
    """How a model's tags name entities.

    Args:
        labels: All tags of the model. If one starts with ``B-`` or ``I-`` (or ``B_``, ``I_``),
            such letters are prefixes: B, S, U start an entity, E, S, L, U end one, and I, M, E, L
            go on with one of the same label or else start it. Otherwise a tag is a label, and
            neighbours of the same label are one entity.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._has_prefixes = any(re.match(r"[BI][-_].", label) for label in labels)

    def split(self, tag: str) -> tuple[str, str | None]:
        """Return the prefix, empty if there is none, and the label, None outside."""
        if tag == OUTSIDE:
            return "", None
        match = _PREFIXED.fullmatch(tag) if self._has_prefixes else None
        return (match[1], match[2]) if match else ("", tag)

    def join_compounds(self, text: str, words: Sequence[TaggedWord]) -> list[TaggedWord]:
        """Return the words with those made one that a hyphen or a number's mark joins.

        ``Non-AC``, ``10:30`` and ``1/2/2026`` are one word each, and the tag of its first part
        counts, unless a later part has another label: in ``Delhi-Agra``, with a source and a
        destination, every part keeps its own tag.
        """
        joined: list[TaggedWord] = []
        index = 0
        while index < len(words):
            parts = 1
            while _is_connector(text, words[index + parts - 1 : index + parts + 2]):
                parts += 2
            compound = words[index : index + parts]
            joined += self._joined(compound)
            index += parts
        return joined

    def _joined(self, parts: Sequence[TaggedWord]) -> Sequence[TaggedWord]:
        label = self.split(parts[0].tag)[1]
        if any(self.split(part.tag)[1] not in (None, label) for part in parts):
            return parts
        return [replace(parts[0], end=parts[-1].end)]

    def entities(self, text: str, words: Sequence[TaggedWord]) -> list[Entity]:
        """Return the entities that the tags of a text's words name, in order."""
        found: list[tuple[str, int, int]] = []
        is_open = False
        for index, word in enumerate(words):
            prefix, label = self.split(word.tag)
            if label is None:
                is_open = False
                continue
            if is_open and prefix not in STARTS and found[-1][0] == label:
                found[-1] = (label, found[-1][1], index + 1)
            else:
                found.append((label, index, index + 1))
            is_open = prefix not in ENDS
        return [_entity(text, label, words, first, end) for label, first, end in found]


def _is_connector(text: str, words: Sequence[TaggedWord]) -> bool:
    """Return whether the middle one of three words joins the other two to one word."""
    if len(words) < 3:
        return False
    left, middle, right = words
    if left.end != middle.start or middle.end != right.start:
        return False
    mark, before, after = text[middle.start : middle.end], text[left.end - 1], text[right.start]
    if mark in HYPHENS:
        return is_word_character(before) and is_word_character(after)
    return mark in NUMBER_MARKS and before.isdecimal() and after.isdecimal()


def _entity(text: str, label: str, words: Sequence[TaggedWord], first: int, end: int) -> Entity:
    start, stop = words[first].start, words[end - 1].end
    score = sum(word.score for word in words[first:end]) / (end - first)
    return Entity(label, text[start:stop], start, stop, score, first, end)
