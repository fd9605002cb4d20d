"""The texts that ship with Retort: some to compare models on, others to calibrate them on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class SampleText:
    """One text that ships with Retort.

    Attributes:
        language: An ISO 639 code: ``en``, ``de``, ...; ``mul`` for several languages in one
            text; ``zxx`` for what is in no language, such as code and numbers.
        register: What kind of text it is: ``question``, ``news``, ``sql``, ``empty``, ...
        text: The text itself, from the empty string to more than 700 words.
    """

    language: str
    register: str
    text: str


@cache
def validation_texts() -> tuple[SampleText, ...]:
    """Return the texts that a model is compared with its original on, always in the same order.

    They are written for Retort, so that they may be passed on with it: about 40% are English,
    the rest is spread over some thirty languages, code, numbers and awkward input.
    """
    return _read_texts("validation_texts.jsonl")


@cache
def calibration_texts() -> tuple[SampleText, ...]:
    """Return the texts that activation ranges are measured on, always in the same order.

    They are written for Retort too, and none is among the validation texts, so that a comparison
    on those says something. About 60% are English, and a quarter are of 60 to 150 words.
    """
    return _read_texts("calibration_texts.jsonl")


def pieces(texts: Iterable[str], most_words: int = 24) -> tuple[str, ...]:
    """Return the parts of texts between marks, of two words or more, each once and in order.

    Args:
        texts: The texts; those that are a piece themselves are left out.
        most_words: Where longer parts are cut off.
    """
    whole = tuple(texts)
    known = frozenset(whole)
    parts = (part.split() for text in whole for part in re.split(r"(?<=[.!?;:,\n])\s+", text))
    cut = dict.fromkeys(" ".join(words[:most_words]) for words in parts if len(words) > 1)
    return tuple(piece for piece in cut if piece not in known)


def _read_texts(file_name: str) -> tuple[SampleText, ...]:
    resource = files("retort") / "data" / file_name
    # Not splitlines(), which would also split at U+2028 and U+0085 inside a text.
    lines = resource.read_text(encoding="utf-8").split("\n")
    return tuple(SampleText(**json.loads(line)) for line in lines if line)
