"""Scales of channels that weigh what activations lose in 8 bits against what weights lose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retort.recipes.calibration import Activations

Floats = npt.NDArray[np.float32]

STEPS = 150
FIRST_STEP = 0.04  # of a scale's logarithm
COLUMNS = 128  # of the weight, spread evenly: they stand for the others
SHARPNESS = (16.0, 64.0)  # of the power mean that stands for the largest, at first and at last
SMALLEST = 0.5  # a channel that calibration hardly saw must keep room for other texts
WEIGHT_SHARE = 0.5  # what rounding by error leaves of the weights' error
TINY = 1e-20


class _Losses:
    """The expected squared error of a product in 8 bits, and how it changes with the scales.

    Activations divided by ``d`` have one step for all channels, as wide as the widest channel
    needs; weights multiplied by ``d`` have one step a column, as wide as its widest row needs.
    Each rounding error is uniform, a twelfth of its step squared.
    """

    def __init__(self, activations: Activations, weight: Floats, copies: Floats) -> None:
        spread = np.linspace(0, weight.shape[1] - 1, min(COLUMNS, weight.shape[1]))
        rows = weight[:, np.unique(spread.astype(int))]
        self.high: Floats = activations.high.clip(min=0)
        self.low: Floats = (-activations.low).clip(min=0)
        self.energy: Floats = np.diagonal(activations.moments) * copies
        self.gain = (np.square(rows).sum(axis=1) / copies).astype(np.float32)
        self.weights: Floats = (np.abs(rows) / copies[:, None]).astype(np.float32)

    def total(self, scales: Floats) -> float:
        """Return the error."""
        step = ((self.high / scales).max() + (self.low / scales).max()) / 255
        column_steps = (self.weights * scales[:, None]).max(axis=0) / 127
        by_activations = step**2 * (np.square(scales) @ self.gain)
        by_weights = WEIGHT_SHARE * np.square(column_steps).sum() * (self.energy / scales**2).sum()
        return float(by_activations + by_weights)

    def slope(self, scales: Floats, power: float) -> Floats:
        """Return the change of the error's logarithm by that of each scale's logarithm."""
        high, high_share = _soft_largest((self.high / scales)[:, None], power)
        low, low_share = _soft_largest((self.low / scales)[:, None], power)
        widest, share = _soft_largest(self.weights * scales[:, None], power)
        step, column_steps = (high[0] + low[0]) / 255, np.square(widest / 127)
        noise, energy = np.square(scales) * self.gain, self.energy / np.square(scales)
        narrowing = (high[0] * high_share[:, 0] + low[0] * low_share[:, 0]) / 255
        by_activations = step**2 * noise - step * noise.sum() * narrowing
        by_weights = energy.sum() * (share @ column_steps) - column_steps.sum() * energy
        total = step**2 * noise.sum() + WEIGHT_SHARE * column_steps.sum() * energy.sum()
        return np.asarray(2 * (by_activations + WEIGHT_SHARE * by_weights) / max(total, TINY))


def _soft_largest(values: Floats, power: float) -> tuple[Floats, Floats]:
    """Return a smooth largest of each column, and each row's share in it."""
    largest = values.max(axis=0) + TINY
    raised = np.exp(power * np.log(values / largest + TINY))
    total = raised.sum(axis=0)
    return largest * total ** (1 / power), raised / total


def balanced_scales(
    activations: Activations, weight: Floats, start: Floats, copies: Floats
) -> Floats:
    """Return what to divide each channel by, so that the product loses least in 8 bits.

    SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) takes one exponent for all channels; here each
    has its own scale, found by gradient descent (Adam, Kingma and Ba 2014, arXiv:1412.6980).

    Args:
        activations: What the channels are on the calibration texts.
        weight: float32 ``[channels, columns]``.
        start: Scales to begin with, float32 ``[channels]``, above zero.
        copies: How many times each channel is there, float32 ``[channels]``.

    Returns:
        float32 ``[channels]``, above zero; ``start`` where nothing better was found.
    """
    losses = _Losses(activations, weight, copies)
    logs = np.log(start)
    mean, square = np.zeros_like(logs), np.zeros_like(logs)
    best, least = start, losses.total(start)
    for step in range(1, STEPS + 1):
        power = SHARPNESS[0] + (SHARPNESS[1] - SHARPNESS[0]) * step / STEPS
        slope = losses.slope(np.exp(logs), power)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * np.square(slope)
        direction = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-9)
        logs = np.maximum(logs - FIRST_STEP * direction, np.log(SMALLEST))
        total = losses.total(np.exp(logs))
        if total < least:
            best, least = np.exp(logs), total
    return best.astype(np.float32)
