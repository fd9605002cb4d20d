"""From the vectors of tokens to the vector of a text, in numpy, for padding on either side."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.int64]

# sentence-transformers' own bounds, so that a text without tokens gets the same vector.
SMALLEST_SUM = np.float32(1e-9)
SMALLEST_NORM = np.float32(1e-12)
MASKED_VALUE = np.float32(-1e9)


def _cls(hidden: Floats, mask: Mask, _kept: Mask) -> Floats:
    first = mask.argmax(axis=1)
    return np.asarray(hidden[np.arange(len(hidden)), first])


def _max(hidden: Floats, _mask: Mask, kept: Mask) -> Floats:
    masked = np.where(kept[..., None] != 0, hidden, MASKED_VALUE)
    return np.asarray(masked.max(axis=1), dtype=np.float32)


def _weighted_sum(hidden: Floats, weights: Mask) -> tuple[Floats, Floats]:
    """Return the weighted sum ``[batch, dimension]`` and the sum of weights ``[batch, 1]``."""
    factors = weights.astype(np.float32)
    total = np.maximum(factors.sum(axis=1, keepdims=True), SMALLEST_SUM)
    return np.matmul(factors[:, None, :], hidden)[:, 0], total


def _mean(hidden: Floats, _mask: Mask, kept: Mask) -> Floats:
    summed, count = _weighted_sum(hidden, kept)
    return summed / count


def _mean_sqrt(hidden: Floats, _mask: Mask, kept: Mask) -> Floats:
    summed, count = _weighted_sum(hidden, kept)
    return np.asarray(summed / np.sqrt(count), dtype=np.float32)


def _weighted_mean(hidden: Floats, mask: Mask, kept: Mask) -> Floats:
    positions = np.cumsum(mask, axis=1)
    summed, total = _weighted_sum(hidden, positions * kept)
    return summed / total


def _last(hidden: Floats, _mask: Mask, kept: Mask) -> Floats:
    rows = np.arange(len(hidden))
    last = kept.shape[1] - 1 - kept[:, ::-1].argmax(axis=1)
    return np.asarray(hidden[rows, last] * (kept[rows, last, None] != 0), dtype=np.float32)


# In the order in which sentence-transformers joins several poolings end to end.
POOLINGS: Mapping[str, Callable[[Floats, Mask, Mask], Floats]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def pool(hidden: Floats, mask: Mask, modes: tuple[str, ...], prompt_tokens: int = 0) -> Floats:
    """Return one vector per text.

    The definitions are those of ``sentence_transformers.models.Pooling`` for a text on its own:
    padding has no influence, wherever it lies.

    Args:
        hidden: Token vectors, ``[batch, sequence, dimension]``.
        mask: The attention mask, ``[batch, sequence]``.
        modes: Keys of :data:`POOLINGS`; several are joined end to end.
        prompt_tokens: How many of a text's first tokens are a prompt that must not count.

    Returns:
        Float32 ``[batch, dimension * len(modes)]``.
    """
    kept = mask * (np.cumsum(mask, axis=1) > prompt_tokens)
    return np.concatenate([POOLINGS[mode](hidden, mask, kept) for mode in modes], axis=1)


def normalized(vectors: Floats) -> Floats:
    """Return the rows scaled to unit length; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, SMALLEST_NORM), dtype=np.float32)
