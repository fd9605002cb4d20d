"""The batches that every file is compared on: real texts, and odd shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnx_configs.base import COUNTED_TOKENS, TEXT_INPUTS

if TYPE_CHECKING:
    from onnx_configs.base import Reference, Tensors

BATCH = 8
LEFT_PADDED_BATCHES = 4
# Attention's memory grows with the square of the length: beyond this a check costs gigabytes.
LONGEST_CHECKED = 2048


@dataclass(frozen=True)
class Case:
    """One batch of the validation: how it is called, and the inputs."""

    name: str
    inputs: Tensors

    @property
    def counted(self) -> npt.NDArray[np.int64]:
        """Which tokens are compared, ``[batch, sequence]``."""
        return self.inputs.get(COUNTED_TOKENS, self.inputs["attention_mask"])


def cases(reference: Reference, texts: Sequence[str]) -> Iterator[Case]:
    """Yield batches of 8 and of 1, padded right and left, of length 1 and the maximum."""
    ordered = sorted(texts, key=len)
    batches = [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]
    mixed = uneven(texts)
    for batch in (mixed, *batches):
        yield Case("batch 8, right padding", reference.tokenize(batch, "right"))
    for batch in (mixed, *batches[:: max(1, len(batches) // LEFT_PADDED_BATCHES)]):
        yield Case("batch 8, left padding", reference.tokenize(batch, "left"))
    for text in texts:
        yield Case("batch 1", reference.tokenize([text], "right"))
    longest = _longest(reference, max(texts, key=len))
    yield Case("maximum length", longest)
    yield Case("length 1", _cut(longest, 1))


def uneven(texts: Sequence[str]) -> list[str]:
    """Return a batch of texts from the shortest to the longer ones."""
    ordered = sorted(texts, key=len)
    return ordered[:: max(1, len(ordered) // (BATCH - 1))]


def alone(reference: Reference, texts: Sequence[str], case: Case, row: int) -> Case:
    """Return a text of a right-padded batch as a batch of its own, with the same tokens.

    They are cut out, since some libraries tokenize a text by the length of its batch mates.
    """
    inputs = case.inputs
    used = np.flatnonzero(case.counted[row] | inputs["attention_mask"][row])
    length = int(used[-1]) + 1 if used.size else 1
    own = {name: v[row : row + 1] for name, v in inputs.items() if name in _BY_TOKEN}
    return Case("alone", {**reference.tokenize([texts[row]], "right"), **_cut(own, length)})


_BY_TOKEN = (*TEXT_INPUTS, COUNTED_TOKENS)


def _longest(reference: Reference, text: str) -> Tensors:
    goal, length = min(reference.max_length, LONGEST_CHECKED), 0
    inputs = reference.tokenize([text], "right")
    while length < inputs["input_ids"].shape[1] < goal:
        length = inputs["input_ids"].shape[1]
        text += " " + text
        inputs = reference.tokenize([text], "right")
    return _cut(inputs, LONGEST_CHECKED)


def _cut(inputs: Tensors, length: int) -> Tensors:
    """Return the first tokens of a batch; other inputs, such as images, stay."""
    return {name: v[:, :length] if name in _BY_TOKEN else v for name, v in inputs.items()}
