"""Whether what a graph answers to a text depends on the texts beside it in the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retort.cases import Case, alone, uneven
from retort.fidelity import Array

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Reference, Tensors


@dataclass(frozen=True)
class Mates:
    """A few texts of different lengths in one batch, and each of them alone."""

    together: Case
    alone: tuple[Case, ...]


def mates_of(reference: Reference, texts: Sequence[str]) -> Mates:
    """Return some of the texts as a batch, padded right, and alone; the reference tokenizes."""
    batch, together = uneven(texts), mixed_batch(reference, texts)
    rows = range(len(batch))
    return Mates(together, tuple(alone(reference, batch, together, row) for row in rows))


def effect_of_mates(run: Callable[[Case], Tensors], family: ModelFamily, mates: Mates) -> float:
    """Return the worst fidelity of a text alone against the same text in a batch of 8.

    Both are run by one graph. Dynamic quantization takes one scale for a whole batch, so that a
    text's result changes with its batch mates.

    Args:
        run: Runs the graph, and returns the outputs that the family's fidelity reads.
        family: Says how fidelity is measured.
        mates: The texts.

    Returns:
        The fidelity to six digits; 1 where batch mates have no effect.
    """
    outputs, worst = run(mates.together), 1.0
    for row, case in enumerate(mates.alone):
        mate = {name: _row(value, row, mates.together, case) for name, value in outputs.items()}
        scores = family.fidelity(run(case), mate, case.counted)
        worst = min(worst, float(np.min(scores, initial=1.0)))
    return round(worst, 6)


def batch_mates(
    run: Callable[[Case], Tensors],
    family: ModelFamily,
    reference: Reference,
    texts: Sequence[str],
) -> float:
    """Return the effect of mates on some of the texts, which the reference tokenizes."""
    return effect_of_mates(run, family, mates_of(reference, texts))


def mixed_batch(reference: Reference, texts: Sequence[str]) -> Case:
    """Return the batch, padded right, in which texts have mates."""
    return Case("together", reference.tokenize(uneven(texts), "right"))


def _row(values: Array, row: int, together: Case, case: Case) -> Array:
    """Return one text's part of an output, of a token-wise one without the padding."""
    part = values[row : row + 1]
    by_token = values.shape[:2] == together.counted.shape and values.ndim > 2
    return part[:, : case.counted.shape[1]] if by_token else part
