"""Search: the 8-bit file that keeps its promise, by trying recipes on texts."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from retort.artifact import Artifact
from retort.errors import FidelityError
from retort.recipes.recipe import LADDERS, PLAIN, Prepared, Recipe, make_graph, prepare
from retort.recipes.trials import Trials
from retort.report import Ladder, RungReport
from retort.stages.quantize import QuantizeSettings, quantize, source_name
from retort.talk import third_party_quiet, third_party_work

logger = logging.getLogger(__name__)


def search(source: Artifact, settings: QuantizeSettings, trials: Trials, folder: Path) -> Artifact:
    """Make 8-bit files by one recipe after the other, until one has the fidelity asked for.

    Args:
        source: The portable or the optimized graph; not changed.
        settings: The precision, the recipes and the fidelity.
        trials: The texts, and how fidelity is measured.
        folder: An empty folder of this stage's own.

    Returns:
        The file of the first recipe that passes, with the ladder that led to it.

    Raises:
        ConversionError: If the graph cannot be quantized.
        FidelityError: If no recipe passes; it tells what each reached.
    """
    folder.mkdir(parents=True)
    with third_party_quiet():
        return _climb(source, settings, trials, folder)


def _climb(source: Artifact, settings: QuantizeSettings, trials: Trials, folder: Path) -> Artifact:
    workshop = _Workshop(source, settings, trials, folder)
    answers = trials.answers(source.path, folder / "answers")
    rungs: list[RungReport] = []
    for recipe in LADDERS[settings.recipe]:
        made, layers = workshop.make(recipe)
        rung = trials.measure(recipe, made.path, source.path, answers, settings.min_fidelity)
        rungs.append(rung)
        ladder = Ladder(settings.precision, settings.min_fidelity, tuple(rungs), layers)
        told = (recipe.name, rung.fidelity_mean, rung.fidelity_min, rung.batch_mates)
        logger.info("%s: mean %.4f, min %.4f, alone/batch %.4f", *told)
        if rung.passed or not settings.min_fidelity:
            return replace(made, ladder=ladder)
    raise FidelityError(
        f"{settings.precision}: no recipe reaches {settings.min_fidelity:g}; nothing was written, "
        "give texts like those it will meet with --calibration_dataset, ask for less with "
        f"--min_fidelity, or for another precision\n{ladder.table()}"
    )


@dataclass
class _Workshop:
    """Where the files of a ladder are made; the calibration is done once, when it is needed."""

    source: Artifact
    settings: QuantizeSettings
    trials: Trials
    folder: Path
    _prepared: list[Prepared] = field(default_factory=list)

    def make(self, recipe: Recipe) -> tuple[Artifact, Mapping[str, float]]:
        """Return a recipe's file, and the error of each group of products where it is known."""
        folder = self.folder / recipe.name
        logger.info("trying %s: %s", recipe.name, recipe.note)
        if recipe.name == PLAIN:
            return quantize(self.source, self.settings, folder), {}
        started = time.perf_counter()
        folder.mkdir()
        output = folder / "model.onnx"
        signed = not self.settings.precision.startswith("QU")
        with third_party_work(f"recipe {recipe.name} of {self.source.path.name}"):
            layers = make_graph(
                self._prepare(),
                recipe,
                output,
                signed=signed,
                pairs=self.settings.pairs,
                progress=self.trials.progress,
            )
        details = {
            "precision": self.settings.precision,
            "from": source_name(self.source),
            "recipe": recipe.name,
            "target": self.settings.target,
            "pairs_fit_16_bits": self.settings.pairs,
            "calibration_texts": len(self.trials.calibration),
        }
        seconds = time.perf_counter() - started
        made = self.source.after(output, "quantize", details, seconds)
        return made.with_precision(self.settings.precision), layers

    def _prepare(self) -> Prepared:
        if not self._prepared:
            folder = self.folder / "prepared"
            folder.mkdir()
            batches = self.trials.batches()
            progress = self.trials.progress
            self._prepared.append(prepare(self.source.path, folder, batches, progress=progress))
        return self._prepared[0]
