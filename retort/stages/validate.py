"""Validate: every file against the untouched PyTorch model, on real texts and odd shapes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from onnx_configs.base import COUNTED_TOKENS, TEXT_INPUTS
from retort.artifact import Artifact, Checkpoint, graph_bytes
from retort.errors import FidelityError
from retort.fidelity import largest_difference
from retort.graphs.onnx_file import LARGEST_SINGLE_FILE, summarize
from retort.graphs.session import open_session
from retort.graphs.timing import SHAPES, fastest_seconds, speed_against
from retort.report import FileReport, ValidationReport
from retort.talk import doing, third_party_quiet
from retort.texts import validation_texts

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Reference, Tensors
    from retort.arguments import ExportArguments

logger = logging.getLogger(__name__)

FP32_TOLERANCE = 1e-4
POOR_FIDELITY = 0.9  # a mean below it is worth a warning even with --quiet
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
    uneven = ordered[:: len(ordered) // (BATCH - 1)]
    for batch in (uneven, *batches):
        yield Case("batch 8, right padding", reference.tokenize(batch, "right"))
    for batch in (uneven, *batches[:: max(1, len(batches) // LEFT_PADDED_BATCHES)]):
        yield Case("batch 8, left padding", reference.tokenize(batch, "left"))
    for text in texts:
        yield Case("batch 1", reference.tokenize([text], "right"))
    longest = _longest(reference, max(texts, key=len))
    yield Case("maximum length", longest)
    yield Case("length 1", _cut(longest, 1))


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
    by_token = (*TEXT_INPUTS, COUNTED_TOKENS)
    return {name: v[:, :length] if name in by_token else v for name, v in inputs.items()}


def load_reference(
    family: ModelFamily, checkpoint: Checkpoint, arguments: ExportArguments
) -> Reference:
    """Load the untouched PyTorch model.

    Raises:
        ConversionError: If its library cannot load it.
    """
    with doing(f"loading {checkpoint.model_id} with PyTorch"), third_party_quiet():
        return family.reference(checkpoint, arguments)


def validate(
    artifacts: Mapping[str, Artifact],
    family: ModelFamily,
    reference: Reference,
    *,
    vocabulary: int,
    progress: bool,
) -> ValidationReport:
    """Run every file beside the reference and report how far apart they are.

    Args:
        artifacts: The files to check, under the names they will be shipped with; the portable
            fp32 graph first.
        family: Says how fidelity is measured.
        reference: The untouched PyTorch model.
        vocabulary: The number of token ids, for the inputs of the timing.
        progress: Whether to draw a progress bar.

    Returns:
        One row for each file. Speed is against the first file.

    Raises:
        ConversionError: If a file cannot be run.
    """
    texts = [sample.text for sample in validation_texts()]
    with doing("validation"), third_party_quiet():
        planned = list(cases(reference, texts))
        bar = tqdm(planned, desc="validate", unit="batch", disable=not progress)
        tally = _compare(artifacts, family, reference, bar)
        speed = _speeds(artifacts, vocabulary, reference.max_length)
    rows = [tally[name].row(name, artifact, speed[name]) for name, artifact in artifacts.items()]
    shapes = [f"{batch}×{length}" for batch, length in _shapes(reference.max_length)]
    return ValidationReport(
        reference.library, family.fidelity_unit, len(texts), tuple(shapes), tuple(rows)
    )


def _compare(
    artifacts: Mapping[str, Artifact],
    family: ModelFamily,
    reference: Reference,
    planned: Iterable[Case],
) -> dict[str, _Tally]:
    tally = {name: _Tally() for name in artifacts}
    answered = ((case, reference.run(case.inputs)) for case in planned)
    if not _large(artifacts):
        _compare_files(artifacts, family, answered, tally)
        return tally
    with TemporaryDirectory(prefix="retort-") as folder:
        kept = list(_kept_on_disk(answered, Path(folder)))
        for name, artifact in artifacts.items():
            _compare_files({name: artifact}, family, kept, tally)
    return tally


def _large(artifacts: Mapping[str, Artifact]) -> bool:
    """Tell whether the graphs together would fill the memory beside the reference."""
    return any(graph_bytes(a.path) >= LARGEST_SINGLE_FILE for a in artifacts.values())


def _kept_on_disk(
    answered: Iterable[tuple[Case, Tensors]], folder: Path
) -> Iterator[tuple[Case, Tensors]]:
    """Yield batches with what was answered, mapped from files in a folder."""
    for number, (case, outputs) in enumerate(answered):
        kept = {}
        for position, (name, values) in enumerate(outputs.items()):
            path = folder / f"{number}-{position}.npy"
            np.save(path, values)
            kept[name] = np.load(path, mmap_mode="r")
        yield case, kept


def _compare_files(
    artifacts: Mapping[str, Artifact],
    family: ModelFamily,
    answered: Iterable[tuple[Case, Tensors]],
    tally: Mapping[str, _Tally],
) -> None:
    sessions = {
        name: open_session(a.path, spinning=False, arena=False) for name, a in artifacts.items()
    }
    for case, expected in answered:
        for name, session in sessions.items():
            if _takes(session, case):
                tally[name].add(family, case, expected, _run(session, case, expected))


def check_load(artifacts: Mapping[str, Artifact]) -> None:
    """Open every file once, which is all that --skip_validation leaves.

    Raises:
        ConversionError: If a file does not load.
    """
    for name, artifact in artifacts.items():
        with doing(f"loading {name}"):
            open_session(artifact.path)


def require_agreement(report: ValidationReport) -> None:
    """Refuse a result whose fp32 files differ from the reference, or which has NaN or infinity.

    Raises:
        FidelityError: If a difference of an fp32 file exceeds 1e-4 (relative where values exceed
            1), or any file gives a value that is not finite.
    """
    for row in report.files:
        if not math.isfinite(row.largest_difference):
            raise FidelityError(
                f"{row.file}: gives values that are not finite ({row.worst_case}); no folder was "
                f"written, leave {row.precision} out"
            )
        if row.fidelity_mean < POOR_FIDELITY:
            logger.warning("%s: %s is only %.3f", row.file, report.fidelity_unit, row.fidelity_mean)
        if row.precision == "fp32" and not row.largest_difference <= FP32_TOLERANCE:
            raise FidelityError(
                f"{row.file}: differs from {report.reference} by {row.largest_difference:.2g} "
                f"({row.worst_case}), more than {FP32_TOLERANCE:g}; no folder was written"
            )


class _Tally:
    """What one file has shown so far."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.difference = 0.0
        self.worst_case = ""

    def add(self, family: ModelFamily, case: Case, expected: Tensors, actual: Tensors) -> None:
        mask = case.counted
        self.scores.extend(family.fidelity(expected, actual, mask))
        difference = largest_difference(expected, actual, mask)
        if difference > self.difference:
            self.difference, self.worst_case = difference, case.name

    def row(self, name: str, artifact: Artifact, speed: Sequence[float]) -> FileReport:
        summary = summarize(artifact.path)
        return FileReport(
            file=name,
            precision=artifact.precision,
            bytes=graph_bytes(artifact.path),
            opset=summary.opset,
            ir_version=summary.ir_version,
            fused_operators=dict(summary.fused_operators),
            fidelity_mean=float(np.mean(self.scores)),
            fidelity_min=float(np.min(self.scores)),
            largest_difference=self.difference,
            worst_case=self.worst_case,
            speed=tuple(speed),
        )


def _takes(session: Any, case: Case) -> bool:
    """Tell whether a graph has inputs for all that a batch holds: a text graph takes no images."""
    known = {value.name for value in session.get_inputs()}.union(TEXT_INPUTS, [COUNTED_TOKENS])
    return all(name in known or not value.any() for name, value in case.inputs.items())


def _run(session: Any, case: Case, names: Mapping[str, Any]) -> Tensors:
    wanted = {value.name for value in session.get_inputs()}
    inputs = {name: value for name, value in case.inputs.items() if name in wanted}
    return dict(zip(names, session.run(list(names), inputs), strict=True))


def _shapes(longest: int) -> list[tuple[int, int]]:
    return [(batch, min(length, longest)) for batch, length in SHAPES]


def _speeds(
    artifacts: Mapping[str, Artifact], vocabulary: int, longest: int
) -> dict[str, list[float]]:
    apart = [{name: artifact} for name, artifact in artifacts.items()]
    seconds: dict[str, list[float]] = {}
    for together in apart if _large(artifacts) else [artifacts]:
        sessions = {name: open_session(artifact.path) for name, artifact in together.items()}
        seconds |= fastest_seconds(sessions, vocabulary, shapes=_shapes(longest))
        del sessions
    baseline = next(iter(seconds.values()))
    return {name: speed_against(baseline, figures) for name, figures in seconds.items()}
