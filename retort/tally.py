"""What the batches of a validation have shown of one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from retort.artifact import Artifact, graph_bytes
from retort.cases import Case
from retort.errors import InputError
from retort.fidelity import largest_difference
from retort.graphs.onnx_file import summarize
from retort.report import FileReport

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Tensors


class Tally:
    """What one file has shown so far.

    Args:
        name: The file's name in the report and in errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.scores: list[float] = []
        self.difference = 0.0
        self.worst_case = ""

    def add(self, family: ModelFamily, case: Case, expected: Tensors, actual: Tensors) -> None:
        """Compare a batch.

        Args:
            family: Says how fidelity is measured.
            case: The batch.
            expected: The reference's outputs.
            actual: The file's, some of the same names.

        Raises:
            InputError: If one has another shape than the reference's.
        """
        mask = case.counted
        common = {name: expected[name] for name in actual}
        for name, values in common.items():
            if values.shape != actual[name].shape:
                raise InputError(
                    f"{self.name}: its {name} has the shape {actual[name].shape} where the "
                    f"reference's has {values.shape}; give the --reference it was made from"
                )
        self.scores.extend(family.fidelity(common, actual, mask))
        difference = largest_difference(common, actual, mask)
        if difference > self.difference:
            self.difference, self.worst_case = difference, case.name

    def row(self, artifact: Artifact, speed: Sequence[float], mates: float) -> FileReport:
        """Return what was found.

        Args:
            artifact: The file.
            speed: Times faster than the first file, by shape.
            mates: What batch mates do to it.

        Raises:
            InputError: If no batch could be compared.
        """
        if not self.scores:
            raise InputError(
                f"{self.name}: takes none of the batches, which have 1 or 8 texts of any length; "
                "leave such files out of the folder"
            )
        summary = summarize(artifact.path)
        return FileReport(
            file=self.name,
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
            batch_mates=mates,
            scores=tuple(round(float(score), 6) for score in self.scores),
        )
