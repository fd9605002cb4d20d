"""The tokenizer: uncased word pieces, with every digit a piece of its own."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

from generate import NAME_LABELS, Query
from transformers import BertTokenizerFast

MAX_LENGTH = 128
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_DIGIT_ENDINGS = ["##am", "##pm", "##st", "##nd", "##rd", "##th", "##k", "##rs", "##hrs"]
# ASCII without capitals, then the rupee sign, dashes, an arrow and curly quotes.
_CHARACTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()] + [
    chr(code) for code in (0x20B9, 0x2013, 0x2014, 0x2192, 0x2018, 0x2019, 0x201C, 0x201D)
]


def _most_frequent(counts: Counter[str], most: int) -> list[str]:
    return sorted(counts, key=lambda piece: (-counts[piece], piece))[:most]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _without_names(query: Query) -> str:
    text = query.text
    for entity in query.entities:
        if entity.label in NAME_LABELS:
            text = text[: entity.start] + " " * (entity.end - entity.start) + text[entity.end :]
    return text


def make_vocabulary(queries: list[Query], words: int, pieces: int) -> list[str]:
    """Return a vocabulary counted from queries; the same queries give the same one.

    Whole words are counted outside names only: names are then read piece by piece in training
    too, as an unknown name will be.

    The word-piece trainer of the tokenizers library breaks ties by chance, so that two runs
    differ; WordPiece itself takes the longest match in any list that holds all characters.

    Args:
        queries: The training queries.
        words: How many whole words to keep, the most frequent ones.
        pieces: How many word openings and how many continuations of 2 to 4 letters to keep.
    """
    common = Counter(word for query in queries for word in _words(_without_names(query)))
    openings: Counter[str] = Counter()
    continuations: Counter[str] = Counter()
    for word in sorted({word for query in queries for word in _words(query.text)}):
        for size in range(2, 5):
            openings[word[:size]] += size
            for start in range(1, len(word) - size + 1):
                continuations[f"##{word[start : start + size]}"] += size
    ordered = (
        *_SPECIAL,
        *_CHARACTERS,
        *(f"##{character}" for character in _CHARACTERS),
        *_DIGIT_ENDINGS,
        *_most_frequent(common, words),
        *_most_frequent(openings, pieces),
        *_most_frequent(continuations, pieces),
    )
    return list(dict.fromkeys(ordered))


def make_tokenizer(vocabulary: list[str]) -> BertTokenizerFast:
    """Return the uncased tokenizer of a vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.txt"
        file.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        return BertTokenizerFast(str(file), do_lower_case=True, model_max_length=MAX_LENGTH)
