"""Static ranges of activations: one scale and zero point for a value, whatever the text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retort.recipes.calibration import Activations

Floats = npt.NDArray[np.float32]
LEVELS = 255


@dataclass(frozen=True)
class Range:
    """How a value is written in unsigned 8 bits: ``round(value / scale) + zero_point``."""

    scale: float
    zero_point: int

    def rough(self, values: Floats) -> Floats:
        """Return the values as they are after 8 bits."""
        steps = np.clip(np.rint(values / self.scale) + self.zero_point, 0, LEVELS)
        return ((steps - self.zero_point) * self.scale).astype(np.float32)


def range_of(activations: Activations) -> Range:
    """Return the range from the smallest to the largest value of the calibration texts."""
    low = min(float(activations.low.min()), 0.0)
    high = max(float(activations.high.max()), 0.0)
    scale = max(high - low, 1e-6) / LEVELS
    return Range(float(np.float32(scale)), int(np.clip(np.rint(-low / scale), 0, LEVELS)))


def quantized_rows(activations: Activations) -> Floats:
    """Return the sampled rows as they are after 8 bits."""
    return range_of(activations).rough(activations.rows)


def signed_weight(weight: Floats) -> Floats:
    """Return a weight as it is after 8 bits with one scale a column."""
    scales = np.maximum(np.abs(weight).max(axis=0), 1e-12) / 127
    return (np.rint(weight / scales) * scales).astype(np.float32)
