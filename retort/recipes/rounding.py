"""Weights in signed 8 bits: scales, rounding, and sums of two products that fit 16 bits.

Without VNNI, x86 multiplies two unsigned activations by two signed weights and adds the products
in 16 bits, which saturate (``vpmaddubsw``). 255 × (a + b) fits if the positive ones of two weights
below each other, and the negative ones, sum up to at most 128. Weights that keep this rule are
exact on every processor, and lose far less than a whole bit: few pairs come near it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Signed = npt.NDArray[np.int8]

LARGEST = 127
LARGEST_PAIR = 128  # times 255 it is 32640, and 16 bits hold 32767
SCALE_FACTORS = (1.0, 0.92, 0.85, 1.1, 1.25, 1.5, 2.0)
DAMPING = 0.01  # of the mean second moment, as in GPTQ
BLOCK = 128


def channel_scales(weight: Floats, importance: Floats, *, pairs: bool) -> Floats:
    """Return for each column the scale that loses least.

    Args:
        weight: float32 ``[rows, columns]``.
        importance: The mean square of the activations of each row, float32 ``[rows]``.
        pairs: Whether sums of two products must fit 16 bits.

    Returns:
        float32 ``[columns]``, all above zero.
    """
    widest = np.maximum(np.abs(weight).max(axis=0), 1e-12) / LARGEST
    best, least = widest, np.full(weight.shape[1], np.inf)
    for factor in SCALE_FACTORS:
        scales = widest * np.float32(factor)
        rounded = round_nearest(weight, scales, pairs=pairs)
        lost = importance @ np.square(weight - rounded * scales)
        best, least = np.where(lost < least, scales, best), np.minimum(lost, least)
    return best.astype(np.float32)


def paired_order(weight: Floats) -> npt.NDArray[np.int64]:
    """Return an order of the rows in which sums of two products fit 16 bits with the least loss.

    The row that comes nearest to the largest weight of any column gets the one that stays furthest
    from it as its partner, and so on.

    Args:
        weight: float32 ``[rows, columns]``.

    Returns:
        int64 ``[rows]``; the first two are partners, the next two, and so on.
    """
    widest = np.maximum(np.abs(weight).max(axis=0), 1e-12)
    falling = np.argsort(-(np.abs(weight) / widest).max(axis=1), kind="stable")
    half = len(falling) // 2
    order = falling.copy()
    order[0 : 2 * half : 2], order[1 : 2 * half : 2] = falling[:half], falling[::-1][:half]
    order[2 * half :] = falling[half : half + len(falling) % 2]
    return order


def round_nearest(weight: Floats, scales: Floats, *, pairs: bool) -> Signed:
    """Return the nearest 8-bit weights, ``[rows, columns]``."""
    exact = weight / scales
    rounded = np.clip(np.rint(exact), -LARGEST, LARGEST)
    if pairs:
        even = len(rounded) // 2 * 2
        first, second = rounded[0:even:2], rounded[1:even:2]
        excess = np.maximum(np.abs(first) + np.abs(second) - LARGEST_PAIR, 0)
        excess *= np.sign(first) == np.sign(second)
        half = np.floor(excess / 2)
        first -= np.sign(first) * half
        second -= np.sign(second) * (excess - half)
    return rounded.astype(np.int8)


def round_by_error(weight: Floats, scales: Floats, moments: Floats, *, pairs: bool) -> Signed:
    """Return 8-bit weights whose rounding errors make up for each other on real activations.

    GPTQ (Frantar et al. 2022, arXiv:2210.17323): row by row, the error of a rounded row is taken
    off the rows still to come, as far as the activations' second moments say it can.

    Args:
        weight: float32 ``[rows, columns]``.
        scales: float32 ``[columns]``.
        moments: The mean outer product of the activations, float32 ``[rows, rows]``.
        pairs: Whether sums of two products must fit 16 bits.
    """
    rows = len(weight)
    factor = _inverse_factor(moments)
    left = (weight / scales).astype(np.float64)
    rounded = np.zeros(weight.shape, np.float64)
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        errors = np.zeros((stop - start, weight.shape[1]))
        for row in range(start, stop):
            partner = _partner(rounded, left, row) if pairs else None
            rounded[row] = _rounded_row(left[row], partner)
            error = (left[row] - rounded[row]) / factor[row, row]
            left[row + 1 : stop] -= np.outer(factor[row, row + 1 : stop], error)
            errors[row - start] = error
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return rounded.astype(np.int8)


def _inverse_factor(moments: Floats) -> npt.NDArray[np.float64]:
    """Return the upper Cholesky factor of the inverse of the damped second moments."""
    damped = moments.astype(np.float64)
    mean = float(np.trace(damped)) / len(damped) or 1.0
    damped[np.diag_indices_from(damped)] += DAMPING * mean
    inverse = np.linalg.inv(damped)
    return np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float64)


def _partner(
    rounded: npt.NDArray[np.float64], left: npt.NDArray[np.float64], row: int
) -> tuple[npt.NDArray[np.float64], bool]:
    """Return the other row of a pair, and whether it is rounded already."""
    if row % 2:
        return rounded[row - 1], True
    other = left[row + 1] if row + 1 < len(left) else np.zeros(left.shape[1])
    return other, False


def _rounded_row(
    exact: npt.NDArray[np.float64], partner: tuple[npt.NDArray[np.float64], bool] | None
) -> npt.NDArray[np.float64]:
    rounded = np.clip(np.rint(exact), -LARGEST, LARGEST)
    if partner is None:
        return rounded
    other, settled = partner
    excess = np.abs(rounded) + np.abs(other) - LARGEST_PAIR
    share = np.ceil(excess) if settled else np.floor(excess / 2)
    share = np.maximum(share, 0) * (np.sign(rounded) == np.sign(other))
    return rounded - np.sign(rounded) * share
