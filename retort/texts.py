"""The texts that every converted model is compared with its original on."""

from __future__ import annotations

import json
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
        text: The text itself; one is empty, and one has more than 700 words.
    """

    language: str
    register: str
    text: str


@cache
def validation_texts() -> tuple[SampleText, ...]:
    """Return the shipped texts, always in the same order.

    They are written for Retort, so that they may be passed on with it: about 40% are English,
    the rest is spread over some thirty languages, code, numbers and awkward input.
    """
    resource = files("retort") / "data" / "validation_texts.jsonl"
    lines = resource.read_text(encoding="utf-8").split("\n")
    return tuple(SampleText(**json.loads(line)) for line in lines if line)
