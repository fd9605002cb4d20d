"""Long texts: predictions of overlapping windows, made one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

Floats = npt.NDArray[np.float32]


def text_positions(encoding: Encoding) -> list[int]:
    """Return the positions of a window's tokens that come from the text, not from the template."""
    return [index for index, text in enumerate(encoding.sequence_ids) if text is not None]


def merge_offsets(windows: Sequence[Encoding], step: int) -> list[tuple[int, int]]:
    """Return the offsets of all tokens of a text, each once.

    Args:
        windows: The windows of one text, in order.
        step: How many tokens a window starts after the one before it.
    """
    offsets: list[tuple[int, int]] = []
    for index, window in enumerate(windows):
        own = [window.offsets[position] for position in text_positions(window)]
        offsets[index * step :] = own
    return offsets


def merge_windows(windows: Sequence[Floats], step: int) -> Floats:
    """Return one row per token of a text: from the window that shows most of what surrounds it.

    Args:
        windows: ``[tokens, labels]`` for each window, in order. Window ``i`` starts at the text's
            token ``i * step``, and only the last one reaches the end of the text.
        step: How many tokens a window starts after the one before it.

    Returns:
        ``[tokens of the text, labels]``; a token is taken from the window in which it is farthest
        from an edge.
    """
    last = len(windows) - 1
    merged = np.empty((last * step + len(windows[-1]), windows[-1].shape[1]), dtype=np.float32)
    farthest = np.full(len(merged), -1)
    for index, values in enumerate(windows):
        positions = np.arange(len(values))
        margin = np.minimum(positions, positions[::-1])
        tokens = np.flatnonzero(margin > farthest[index * step :][: len(values)])
        merged[index * step + tokens] = values[tokens]
        farthest[index * step + tokens] = margin[tokens]
    return merged
