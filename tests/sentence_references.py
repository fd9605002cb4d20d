"""What the untouched models of the conversions answer, for tests to compare consumers with."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from converted import Conversion
from sentence_transformers import SentenceTransformer

from retort.texts import validation_texts

Array = npt.NDArray[Any]

_EVERY_TEXT = [sample.text for sample in validation_texts()]
SHORT = [text for text in _EVERY_TEXT if text.strip() and len(text) < 200][:8]
LONG = max(_EVERY_TEXT, key=len)
TEXTS = [*SHORT, LONG]
FP32_TOLERANCE = 1e-4
# all-MiniLM-L6-v2 in 8 bits per channel: 0.964 at worst over 260 texts; per tensor it is 0.77.
LEAST_8_BIT_COSINE = 0.93
LEAST_16_BIT_COSINE = 0.9999


@lru_cache(maxsize=2)
def original(conversion: Conversion) -> SentenceTransformer:
    """Return the untouched model of a conversion."""
    return SentenceTransformer(str(conversion().checkpoint), device="cpu")


@cache
def expected(conversion: Conversion) -> Array:
    """Return the untouched model's vectors of ``TEXTS``, ``[texts, dim]``."""
    return np.asarray(original(conversion).encode(TEXTS))


def least_cosine(actual: Array, wanted: Array) -> float:
    """Return the smallest cosine between two rows of the same text."""
    lengths = np.linalg.norm(actual, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(np.min((actual * wanted).sum(1) / lengths))
