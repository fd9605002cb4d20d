"""What the activations of a graph are on real texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from tqdm import tqdm

from retort.graphs.session import open_session

Floats = npt.NDArray[np.float32]
Tokens = Mapping[str, npt.NDArray[np.int64]]

SAMPLED_ROWS = 1024  # of the activations themselves, for each input
ROWS_OF_A_BATCH = 48
MOST_MULTIPLIED = 512  # rows of a batch whose outer products are summed


@dataclass(frozen=True)
class Activations:
    """What one value ``[..., channels]`` was over all calibration texts, padding left out.

    Attributes:
        largest: The largest magnitude of each channel, float32 ``[channels]``.
        low: The smallest value of each channel.
        high: The largest.
        rows: A sample of its rows, float32 ``[rows, channels]``.
        moments: The mean of a sample's outer products, float32 ``[channels, channels]``.
    """

    largest: Floats
    low: Floats
    high: Floats
    rows: Floats
    moments: Floats

    def taken(self, index: npt.NDArray[np.int64]) -> Activations:
        """Return the same for other channels of the same value."""
        if len(index) == len(self.low) and (index == np.arange(len(index))).all():
            return self
        return Activations(
            self.largest[index],
            self.low[index],
            self.high[index],
            self.rows[:, index],
            self.moments[np.ix_(index, index)],
        )

    def divided(self, scales: Floats) -> Activations:
        """Return the same for values divided by ``scales``, float32 ``[channels]``, above zero."""
        return Activations(
            self.largest / scales,
            self.low / scales,
            self.high / scales,
            self.rows / scales,
            self.moments / np.outer(scales, scales),
        )


class _Gathered:
    """The sums that become one ``Activations``."""

    def __init__(self) -> None:
        self.low: Floats | None = None
        self.high: Floats | None = None
        self.moments: Floats | None = None
        self.count = 0
        self.rows: list[Floats] = []
        self.kept = 0
        self.random = np.random.default_rng(0)

    def add(self, rows: Floats) -> None:
        low, high = rows.min(axis=0), rows.max(axis=0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)
        order = self.random.permutation(len(rows))[:MOST_MULTIPLIED]
        moments = rows[order].T @ rows[order]
        if self.moments is None:
            self.moments = moments
        else:
            self.moments += moments
        self.count += len(order)
        if self.kept < SAMPLED_ROWS:
            taken = order[:ROWS_OF_A_BATCH]
            self.rows.append(rows[taken])
            self.kept += len(taken)

    def finished(self) -> Activations:
        assert self.low is not None
        assert self.high is not None
        assert self.moments is not None
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        rows = np.concatenate(self.rows)
        self.moments /= np.float32(self.count)
        return Activations(largest, self.low, self.high, rows, self.moments)


def calibrate(
    path: Path, names: Sequence[str], batches: Sequence[Tokens], *, progress: bool = False
) -> dict[str, Activations]:
    """Return what each of the named values was; a value that no text reached is left out.

    Args:
        path: The fp32 graph; a copy of its header, with these values as outputs, is written beside
            it for as long as this takes.
        names: The values to watch, float32 ``[..., channels]``.
        batches: Token inputs of any shape, int64 ``[batch, sequence]``.
        progress: Whether to draw a progress bar.
    """
    watched = path.with_name(f"watched_{path.name}")
    _write_with_outputs(path, watched, names)
    session = open_session(watched, spinning=False, arena=False)
    taken = {value.name for value in session.get_inputs()}
    gathered = {name: _Gathered() for name in names}
    for batch in tqdm(batches, desc="calibrate", unit="batch", disable=not progress):
        inputs = {name: values for name, values in batch.items() if name in taken}
        _gather(gathered, session.run(list(names), inputs), batch["attention_mask"])
    del session
    watched.unlink()
    return {name: sums.finished() for name, sums in _taken_out(gathered) if sums.count}


def _gather(
    gathered: Mapping[str, _Gathered], found: list[Floats], mask: npt.NDArray[np.int64]
) -> None:
    """Add what one batch made; of its values, nothing is left when the next batch runs."""
    found.reverse()
    for sums in gathered.values():
        rows = _real_rows(found.pop(), mask)
        if len(rows):
            sums.add(rows)


def _taken_out(gathered: dict[str, _Gathered]) -> Iterator[tuple[str, _Gathered]]:
    """Yield what a mapping holds, which then holds it no longer."""
    while gathered:
        name = next(iter(gathered))
        yield name, gathered.pop(name)


def _write_with_outputs(path: Path, watched: Path, names: Sequence[str]) -> None:
    model = onnx.load(str(path), load_external_data=False)
    # Float outputs of unknown shape: the session infers what it needs.
    fresh = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    del model.graph.output[:]
    model.graph.output.extend(fresh)
    onnx.save(model, str(watched))


def _real_rows(values: Floats, mask: npt.NDArray[np.int64]) -> Floats:
    """Return the rows of real tokens, ``[rows, channels]``; of a value per text, all of them."""
    if values.shape[: mask.ndim] == mask.shape and values.ndim > mask.ndim:
        return values[mask.astype(bool)].reshape(-1, values.shape[-1])
    return values.reshape(-1, values.shape[-1])
