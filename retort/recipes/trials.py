"""What 8-bit recipes are tried on: texts to calibrate with, and other texts to be measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retort.artifact import graph_bytes
from retort.batch_mates import batch_mates, mixed_batch
from retort.cases import BATCH, Case
from retort.graphs.measured_graph import MeasuredGraph
from retort.graphs.session import open_session
from retort.graphs.timing import fastest_seconds, shapes_up_to, speed_against
from retort.kept_answers import kept_on_disk
from retort.report import RungReport
from retort.text_files import read_texts
from retort.texts import calibration_texts, pieces, validation_texts

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Reference, Tensors
    from retort.kept_answers import Answered
    from retort.recipes.recipe import Recipe

HELD_OUT = 5  # of the user's own texts every fifth is kept back to measure on
MOST_HELD_OUT = 200


@dataclass(frozen=True)
class Trials:
    """How recipes are measured.

    Attributes:
        family: Says how fidelity is measured.
        reference: Tokenizes as the model's library does, and names the outputs.
        calibration: Texts that ranges and rounding come from.
        held_out: Other texts, that recipes are measured on.
        vocabulary: The number of token ids, for the inputs of the timing.
        progress: Whether to draw progress bars.
    """

    family: ModelFamily
    reference: Reference
    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    vocabulary: int
    progress: bool

    def batches(self) -> tuple[Tensors, ...]:
        """Return the calibration texts and their pieces as the graph takes them.

        Batches are of like lengths. Activations go furthest in texts of a few words, which a
        collection of longer ones lacks: hence the pieces.
        """
        texts = (*self.calibration, *pieces(self.calibration))
        return tuple(case.inputs for case in _batched(self.reference, texts))

    def answers(self, source: Path, folder: Path) -> list[tuple[Case, Tensors]]:
        """Return what the fp32 graph answers to the held-out texts, kept in a folder on disk."""
        graph, wanted = _opened(source), self._wanted()
        answered: Answered = (
            (case, graph.run(case, wanted))
            for case in (mixed_batch(self.reference, self.held_out), *self._held_out())
        )
        folder.mkdir()
        return list(kept_on_disk(answered, folder))

    def measure(
        self, recipe: Recipe, path: Path, source: Path, answers: Answered, min_fidelity: float
    ) -> RungReport:
        """Return what a recipe's file is beside the fp32 graph.

        It passes if its mean fidelity, and that of a text alone against the same text in a batch,
        are what was asked for.
        """
        graph = _opened(path)
        scores = np.concatenate(
            [
                self.family.fidelity(expected, graph.run(case, expected), case.counted)
                for case, expected in answered_once(answers)
            ]
        )
        run = partial(graph.run, wanted=self._wanted())
        mates = batch_mates(run, self.family, self.reference, self.held_out)
        del graph, run
        sessions = {"fp32": open_session(source), recipe.name: open_session(path)}
        shapes = shapes_up_to(self.reference.max_length)
        seconds = fastest_seconds(sessions, self.vocabulary, shapes=shapes, rounds=2)
        mean = float(scores.mean())
        return RungReport(
            recipe=recipe.name,
            bytes=graph_bytes(path),
            fidelity_mean=mean,
            fidelity_min=float(scores.min()),
            batch_mates=mates,
            speed=tuple(speed_against(seconds["fp32"], seconds[recipe.name])),
            passed=mean >= min_fidelity and mates >= min_fidelity,
            note=recipe.note,
        )

    def _wanted(self) -> list[str]:
        return list(self.reference.run(mixed_batch(self.reference, self.held_out).inputs))

    def _held_out(self) -> Iterator[Case]:
        return _batched(self.reference, self.held_out)


def answered_once(answers: Answered) -> Answered:
    """Return batches with their answers read from the disk."""
    return ((case, {k: np.array(v) for k, v in known.items()}) for case, known in answers)


def trial_texts(
    dataset: str | None, field: str, samples: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the texts to calibrate with and those to measure on.

    Args:
        dataset: The user's file or folder; None for the texts that ship.
        field: The key of the text in a ``.jsonl`` file.
        samples: How many texts at most to calibrate with.

    Raises:
        InputError: If the user's texts cannot be read.
    """
    if dataset is None:
        shipped = tuple(sample.text for sample in calibration_texts())
        return _spread(shipped, samples), tuple(sample.text for sample in validation_texts())
    texts = read_texts(Path(dataset), field, option="--calibration_field")
    held_out = texts[::HELD_OUT]
    rest = tuple(text for at, text in enumerate(texts) if at % HELD_OUT) or texts
    return _spread(rest, samples), _spread(held_out, MOST_HELD_OUT)


def _spread(texts: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return so many of the texts at most, from all parts of the collection."""
    chosen = np.unique(np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int))
    return tuple(texts[at] for at in chosen)


def _batched(reference: Reference, texts: Sequence[str]) -> Iterator[Case]:
    ordered = sorted(texts, key=len)
    for start in range(0, len(ordered), BATCH):
        yield Case("held out", reference.tokenize(ordered[start : start + BATCH], "right"))


def _opened(path: Path) -> MeasuredGraph:
    return MeasuredGraph(open_session(path, spinning=False, arena=False))
