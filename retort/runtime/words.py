"""Where the words of a text are, and which pieces of a tokenizer make them up.

The rule, the same for every tokenizer:

1. A run of letters, marks and digits is a word; so is a run of symbols (emoji), and each single
   punctuation character. White space belongs to none.
2. In scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) each
   character is a word, as in a character tagger.
3. Words that one piece of the tokenizer covers are one word: the model cannot tell them apart.

Words given by the caller are taken as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

ZERO_WIDTH_SPACE = "\u200b"

# First and last code point of scripts without spaces between words, from the Unicode blocks.
UNSPACED_RANGES = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # ideographic iteration mark and zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x9FFF),  # CJK ideographs
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x1AFF0, 0x1B16F),  # Kana extensions
    (0x20000, 0x3FFFF),  # CJK extensions
)


@dataclass(frozen=True)
class Span:
    """Characters ``start`` to ``end`` (exclusive) of a text."""

    start: int
    end: int


@dataclass(frozen=True)
class Word:
    """A word and the positions of the tokenizer's pieces that make it up, in order."""

    start: int
    end: int
    pieces: tuple[int, ...]


def is_unspaced(character: str) -> bool:
    """Return whether a character is of a script written without spaces between words."""
    code = ord(character)
    return any(first <= code <= last for first, last in UNSPACED_RANGES)


def is_word_character(character: str) -> bool:
    """Return whether a character is a letter, a mark or a digit of a script with spaces."""
    return unicodedata.category(character)[0] in "LMN" and not is_unspaced(character)


def _kind(character: str) -> str:
    if character.isspace() or character == ZERO_WIDTH_SPACE:
        return "space"
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf":
        return "extender"
    if is_unspaced(character):
        return "single"
    return {"L": "word", "N": "word", "S": "symbol"}.get(category[0], "single")


def split_words(text: str) -> list[Span]:
    """Return the words of a text by rules 1 and 2, in order."""
    spans: list[Span] = []
    previous = "space"
    for index, character in enumerate(text):
        kind = _kind(character)
        if kind == "extender":
            # Marks and invisible characters stay with what they follow.
            kind = previous if previous != "space" else "word"
            joins = previous != "space"
        else:
            joins = kind == previous and kind in ("word", "symbol")
        if joins:
            spans[-1] = Span(spans[-1].start, index + 1)
        elif kind != "space":
            spans.append(Span(index, index + 1))
        previous = kind
    return spans


def given_spans(words: Sequence[str]) -> list[Span]:
    """Return where each word lies in ``" ".join(words)``."""
    spans: list[Span] = []
    start = 0
    for word in words:
        spans.append(Span(start, start + len(word)))
        start += len(word) + 1
    return spans


def attach_pieces(
    text: str, spans: Sequence[Span], offsets: Sequence[tuple[int, int]], may_merge: bool
) -> list[Word]:
    """Return the words with their pieces.

    Args:
        text: The text.
        spans: Its words.
        offsets: Start and end of each piece in the text.
        may_merge: Whether rule 3 holds; otherwise a piece counts for the first word that it
            covers.
    """
    owner = [-1] * len(text)
    for index, span in enumerate(spans):
        owner[span.start : span.end] = [index] * (span.end - span.start)
    pieces: list[list[int]] = [[] for _ in spans]
    first_of = list(range(len(spans)))
    for piece, (start, end) in enumerate(offsets):
        covered = [index for index in owner[start:end] if index >= 0]
        if not covered:
            continue
        pieces[covered[0]].append(piece)
        if may_merge:
            for index in range(covered[0] + 1, covered[-1] + 1):
                first_of[index] = index - 1
    return _merged(spans, pieces, first_of)


def _merged(
    spans: Sequence[Span], pieces: Sequence[Sequence[int]], first_of: list[int]
) -> list[Word]:
    for index, first in enumerate(first_of):
        first_of[index] = first_of[first]
    words = []
    for _, group in groupby(range(len(spans)), key=first_of.__getitem__):
        members = list(group)
        own = sorted(piece for index in members for piece in pieces[index])
        words.append(Word(spans[members[0]].start, spans[members[-1]].end, tuple(own)))
    return words
