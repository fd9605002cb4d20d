"""Validate: every file against the untouched PyTorch model, on real texts and odd shapes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from retort.artifact import Artifact, Checkpoint, graph_bytes
from retort.batch_mates import Mates, effect_of_mates, mates_of
from retort.cases import cases
from retort.errors import FidelityError
from retort.graphs.measured_graph import MeasuredGraph, found_graph
from retort.graphs.onnx_file import LARGEST_SINGLE_FILE
from retort.graphs.session import open_session
from retort.graphs.timing import fastest_seconds, shapes_up_to, speed_against
from retort.kept_answers import kept_on_disk
from retort.references.releasable import ReleasableReference
from retort.report import ValidationReport
from retort.talk import doing, third_party_quiet, without_bars
from retort.tally import Tally
from retort.texts import validation_texts

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Reference
    from retort.arguments import ExportArguments
    from retort.kept_answers import Answered

logger = logging.getLogger(__name__)

FP32_TOLERANCE = 1e-4
POOR_FIDELITY = 0.9  # a mean below it is worth a warning even with --quiet


def load_reference(
    family: ModelFamily, checkpoint: Checkpoint, arguments: ExportArguments
) -> ReleasableReference:
    """Load the untouched PyTorch model.

    Raises:
        ConversionError: If its library cannot load it.
    """

    def load() -> Reference:
        with (
            doing(f"loading {checkpoint.model_id} with PyTorch"),
            third_party_quiet(),
            without_bars(),
        ):
            return family.reference(checkpoint, arguments)

    return ReleasableReference(load)


def validate(
    artifacts: Mapping[str, Artifact],
    family: ModelFamily,
    reference: ReleasableReference,
    *,
    vocabulary: int,
    progress: bool,
    texts: Sequence[str] | None = None,
    found: bool = False,
) -> ValidationReport:
    """Run every file beside the reference and report how far apart they are.

    Args:
        artifacts: The files to check, under the names they will be shipped with; the portable
            fp32 graph first.
        family: Says how fidelity is measured.
        reference: The untouched PyTorch model; let go before large graphs are opened.
        vocabulary: The number of token ids, for the inputs of the timing.
        progress: Whether to draw a progress bar.
        texts: The texts to run; None for those that ship.
        found: Whether the files may be any tool's, with other and fewer inputs and outputs than
            the family's; otherwise each must have all.

    Returns:
        One row for each file. Speed is against the first file.

    Raises:
        InputError: If a found file has nothing that the reference gives.
        ConversionError: If a file cannot be run.
    """
    texts = [sample.text for sample in validation_texts()] if texts is None else texts
    scratch = TemporaryDirectory(prefix="retort-")
    with doing("validation"), third_party_quiet(), scratch as folder:
        planned, mates = list(cases(reference, texts)), mates_of(reference, texts)
        wanted = list(reference.run(mates.together.inputs))
        bar = tqdm(planned, desc="validate", unit="batch", disable=not progress)
        answered: Answered = ((case, reference.run(case.inputs)) for case in bar)
        if _large(artifacts):
            answered = list(kept_on_disk(answered, Path(folder)))
            if not found:  # what other tools' graphs leave out, the reference completes
                reference.release()
        tally: dict[str, Tally] = {}
        effects: dict[str, float] = {}
        for portion in _portions(artifacts):
            graphs = _open(portion, family, reference, found=found)
            tally |= _compare(graphs, family, answered)
            effects |= _effects_of_mates(graphs, family, mates, wanted)
            del graphs
        speed = _speeds(artifacts, vocabulary, reference.max_length)
    rows = [
        tally[name].row(artifact, speed[name], effects[name])
        for name, artifact in artifacts.items()
    ]
    shapes = [f"{batch}×{length}" for batch, length in shapes_up_to(reference.max_length)]
    ladders = tuple(a.ladder for a in artifacts.values() if a.ladder is not None)
    return ValidationReport(
        reference.library, family.fidelity_unit, len(texts), tuple(shapes), tuple(rows), ladders
    )


def _large(artifacts: Mapping[str, Artifact]) -> bool:
    """Tell whether the graphs together would fill the memory beside the reference."""
    return any(graph_bytes(a.path) >= LARGEST_SINGLE_FILE for a in artifacts.values())


def _portions(artifacts: Mapping[str, Artifact]) -> list[Mapping[str, Artifact]]:
    """Return the files that are open at once: of large ones, each by itself."""
    return [{n: a} for n, a in artifacts.items()] if _large(artifacts) else [artifacts]


def _open(
    artifacts: Mapping[str, Artifact],
    family: ModelFamily,
    reference: ReleasableReference,
    *,
    found: bool,
) -> dict[str, MeasuredGraph]:
    sessions = {
        name: open_session(a.path, spinning=False, arena=False) for name, a in artifacts.items()
    }
    if not found:
        return {name: MeasuredGraph(session) for name, session in sessions.items()}
    return {
        name: found_graph(name, session, family, reference.loaded)
        for name, session in sessions.items()
    }


def _compare(
    graphs: Mapping[str, MeasuredGraph], family: ModelFamily, answered: Answered
) -> dict[str, Tally]:
    tally = {name: Tally(name) for name in graphs}
    for case, expected in answered:
        for name, graph in graphs.items():
            if graph.takes(case):
                with doing(f"running {name}"):
                    actual = graph.run(case, expected)
                tally[name].add(family, case, expected, actual)
    return tally


def _effects_of_mates(
    graphs: Mapping[str, MeasuredGraph],
    family: ModelFamily,
    mates: Mates,
    wanted: Sequence[str],
) -> dict[str, float]:
    """Return what batch mates do to each file; NaN of one that takes no batches."""
    return {
        name: effect_of_mates(partial(graph.run, wanted=wanted), family, mates)
        if graph.takes(mates.together)
        else math.nan
        for name, graph in graphs.items()
    }


def check_load(artifacts: Mapping[str, Artifact]) -> None:
    """Open every file once, which is all that --skip_validation leaves.

    Raises:
        ConversionError: If a file does not load.
    """
    for name, artifact in artifacts.items():
        with doing(f"loading {name}"):
            open_session(artifact.path)


def require_agreement(report: ValidationReport, min_fidelity: float | None = None) -> None:
    """Refuse a result that differs from the reference, or which has NaN or infinity.

    Args:
        report: What was measured.
        min_fidelity: The mean fidelity that the user asked of every file; None where none was.

    Raises:
        FidelityError: If a difference of an fp32 file exceeds 1e-4 (relative where values exceed
            1), any file gives a value that is not finite, or a mean misses what was asked for.
    """
    for row in report.files:
        if not math.isfinite(row.largest_difference):
            raise FidelityError(
                f"{row.file}: gives values that are not finite ({row.worst_case}); no folder was "
                f"written, leave {row.precision} out"
            )
        if row.fidelity_mean < POOR_FIDELITY:
            logger.warning("%s: %s is only %.3f", row.file, report.fidelity_unit, row.fidelity_mean)
        if row.fidelity_mean < (min_fidelity or 0):
            raise FidelityError(
                f"{row.file}: {report.fidelity_unit} is {row.fidelity_mean:.4f}, less than "
                f"--min_fidelity {min_fidelity:g}; no folder was written, leave {row.precision} out"
            )
        if row.precision == "fp32" and not row.largest_difference <= FP32_TOLERANCE:
            raise FidelityError(
                f"{row.file}: differs from {report.reference} by {row.largest_difference:.2g} "
                f"({row.worst_case}), more than {FP32_TOLERANCE:g}; no folder was written"
            )


def _speeds(
    artifacts: Mapping[str, Artifact], vocabulary: int, longest: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {}
    for together in _portions(artifacts):
        sessions = {name: open_session(artifact.path) for name, artifact in together.items()}
        seconds |= fastest_seconds(sessions, vocabulary, shapes=shapes_up_to(longest))
        del sessions
    baseline = next(iter(seconds.values()))
    return {name: speed_against(baseline, figures) for name, figures in seconds.items()}
