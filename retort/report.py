"""The fidelity report: its values, its table, its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FileReport:
    """What validation found of one file.

    Attributes:
        file: Its name in the folder.
        precision: ``fp32`` or the value of ``--quantize``.
        bytes: Its size, external data included.
        opset: The standard operator set it imports.
        ir_version: The IR version of its header.
        fused_operators: Counts by operator.
        fidelity_mean: Mean over all texts and shapes, in the family's unit; 1 is perfect.
        fidelity_min: The worst of them.
        largest_difference: Between any two output values, relative where values exceed 1.
        worst_case: The kind of batch that showed it.
        speed: Times faster than the portable fp32 file, by shape.
    """

    file: str
    precision: str
    bytes: int
    opset: int
    ir_version: int
    fused_operators: Mapping[str, int]
    fidelity_mean: float
    fidelity_min: float
    largest_difference: float
    worst_case: str
    speed: tuple[float, ...]


@dataclass(frozen=True)
class ValidationReport:
    """What validation found of all files.

    Attributes:
        reference: The library and version that ran the PyTorch model.
        fidelity_unit: What a score measures.
        texts: How many texts were run.
        speed_shapes: The shapes of the speed figures, batch×sequence.
        files: One row for each file.
    """

    reference: str
    fidelity_unit: str
    texts: int
    speed_shapes: tuple[str, ...]
    files: tuple[FileReport, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)

    def table(self) -> str:
        """Return the report as an aligned table for a terminal."""
        header = ["file", "MB", "opset", "fused operators", "mean", "min", "difference"]
        header += [f"speed {shape}" for shape in self.speed_shapes]
        rows = [header, *(_cells(row) for row in self.files)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if index in (0, 3) else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        title = (
            f"Fidelity: {self.fidelity_unit}, {self.texts} texts, against {self.reference}; "
            "speed against the first file"
        )
        return "\n".join([title, *lines])


def _cells(row: FileReport) -> list[str]:
    fused = " ".join(f"{name}×{count}" for name, count in row.fused_operators.items())
    return [
        row.file,
        f"{row.bytes / 1e6:.1f}",
        str(row.opset),
        fused or "none",
        f"{row.fidelity_mean:.4f}",
        f"{row.fidelity_min:.4f}",
        f"{row.largest_difference:.1e}",
        *(f"{speed:.2f}×" for speed in row.speed),
    ]
