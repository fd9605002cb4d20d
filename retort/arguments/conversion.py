"""All options of one conversion, and what their values may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retort.arguments.export import OPSETS, ExportArguments
from retort.arguments.optimize import PRECISIONS, REFUSED_PRECISIONS, OptimizeArguments
from retort.arguments.output import OutputArguments
from retort.arguments.publish import PublishArguments
from retort.arguments.source import SourceArguments
from retort.arguments.validate import ValidateArguments
from retort.errors import InputError

GROUPS = (
    SourceArguments,
    ExportArguments,
    OptimizeArguments,
    ValidateArguments,
    OutputArguments,
    PublishArguments,
)


@dataclass(frozen=True, kw_only=True)
class ConversionArguments(
    PublishArguments,
    OutputArguments,
    ValidateArguments,
    OptimizeArguments,
    ExportArguments,
    SourceArguments,
):
    """All options of one conversion; each stage is typed to the group it reads."""

    def __post_init__(self) -> None:
        """Split comma-separated precisions, and refuse unknown ones and opsets out of range.

        Raises:
            InputError: If a precision is not one of ``PRECISIONS``, an opset not of ``OPSETS``, a
                number out of range, or a fidelity asked for that nothing would measure.
        """
        object.__setattr__(self, "verify", self.verify or bool(self.verify_text))
        if self.opset is not None and self.opset not in OPSETS:
            raise InputError(
                f"--opset {self.opset}: the exporter serves {OPSETS[0]} to {OPSETS[-1]}; choose "
                "one of those"
            )
        if not 0 <= (self.min_fidelity or 0) <= 1:
            raise InputError(f"--min_fidelity {self.min_fidelity:g}: give a number from 0 to 1")
        if self.calibration_samples < 1:
            raise InputError(f"--calibration_samples {self.calibration_samples}: give 1 or more")
        object.__setattr__(self, "splade_outputs", _split(self.splade_outputs))
        object.__setattr__(self, "quantize", _precisions(self.quantize))
        unmeasured = [name for name in self.quantize if not self._searches(name)]
        if self.min_fidelity and self.skip_validation and unmeasured:
            raise InputError(
                f"--min_fidelity {self.min_fidelity:g}: with --skip_validation, nothing measures "
                f"{unmeasured[0]}; drop one of the two"
            )

    def _searches(self, precision: str) -> bool:
        """Tell whether a precision is measured while it is made, by trying recipes on texts."""
        tried = self.recipe != "plain" or precision.endswith("Static")
        return tried and "Int8" in precision


def _split(items: Sequence[str]) -> list[str]:
    """Return the names in values that may hold several, separated by commas."""
    return [name.strip() for item in items for name in item.split(",") if name.strip()]


def _precisions(items: Sequence[str]) -> list[str]:
    """Return the precisions in values that may hold several, each once, spelt as in the table."""
    names = _split(items)
    by_lower = {name.lower(): name for name in PRECISIONS}
    for name in names:
        if name.lower() in REFUSED_PRECISIONS:
            raise InputError(f"--quantize {name}: {REFUSED_PRECISIONS[name.lower()]}")
        if name.lower() not in by_lower:
            raise InputError(
                f"--quantize {name}: unknown precision; choose from {', '.join(PRECISIONS)}"
            )
    return list(dict.fromkeys(by_lower[name.lower()] for name in names))
