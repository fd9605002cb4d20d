"""Two graphs side by side on inputs that are made up from what they declare."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retort.graphs.found_graph import read_graph
from retort.graphs.session import open_session

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

BATCH, LENGTH, PADDING = 3, 12, 5
SAFE_IDS = 100  # of a vocabulary whose size the graph does not show
TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}


def difference_of_outputs(before: Path, after: Path) -> float | None:
    """Return how far two graphs are apart, relative where values exceed 1.

    The tokens are random, in rows without padding, with padding on the right and on the left.
    Outputs whose lengths depend on their values, such as the terms of SPLADE, count only where
    those lengths agree.

    Returns:
        The largest difference between any two values; infinite where one is not finite; None if
        the first graph does not run on such inputs, or no output could be compared.

    Raises:
        Exception: What ONNX Runtime raises if the second graph does not run where the first does.
    """
    session = open_session(before)
    try:
        inputs = made_up_inputs(session, before)
        expected = session.run(None, inputs)
    except Exception as error:  # ONNX Runtime's errors have no class in common
        reason = " ".join(str(error).split())
        logger.info("%s does not run on made-up inputs: %s", before, reason)
        return None
    names = [value.name for value in session.get_outputs()]
    del session  # a graph may hold gigabytes
    actual = open_session(after).run(names, inputs)
    pairs = [
        _difference(first, second)
        for first, second in zip(expected, actual, strict=True)
        if _comparable(first) and _comparable(second) and first.shape == second.shape
    ]
    return max(pairs, default=None)


def vocabulary(path: Path) -> int:
    """Return how many token ids a graph knows, or as many as are safe where it does not show."""
    return _vocabularies(path).get("input_ids", SAFE_IDS)


def made_up_inputs(session: Any, path: Path) -> dict[str, Array]:
    """Return random inputs for a graph: rows without padding, with it on the right and the left."""
    return _inputs(session.get_inputs(), _vocabularies(path))


def _comparable(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _difference(expected: Any, actual: Any) -> float:
    first, second = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    apart = np.abs(first - second) / np.maximum(np.abs(first), 1)
    # Two graphs may agree on an infinity.
    apart = np.where((first == second) | (np.isnan(first) & np.isnan(second)), 0, apart)
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


def _inputs(declared: Sequence[Any], vocabularies: Mapping[str, int]) -> dict[str, Array]:
    random = np.random.default_rng(0)
    lengths: dict[str, int] = {}
    inputs = {}
    for value in declared:
        shape = [
            axis if isinstance(axis, int) else lengths.setdefault(axis or "", _length(place))
            for place, axis in enumerate(value.shape)
        ]
        inputs[value.name] = _filled(value, tuple(shape), vocabularies, random)
    return inputs


def _length(place: int) -> int:
    return LENGTH if place else BATCH


def _filled(
    value: Any, shape: tuple[int, ...], vocabularies: Mapping[str, int], random: np.random.Generator
) -> Array:
    kind = TYPES[value.type]
    if "mask" in value.name:
        return _mask(shape).astype(kind)
    if "position" in value.name:
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(kind)
    if "type" in value.name:
        return np.zeros(shape, kind)
    if np.issubdtype(kind, np.integer):
        return random.integers(0, vocabularies.get(value.name, SAFE_IDS), shape, dtype=kind)
    return random.standard_normal(shape).astype(kind)


def _mask(shape: tuple[int, ...]) -> Array:
    mask = np.ones(shape)
    if len(shape) == 2 and shape[1] > PADDING:
        mask[1:2, -PADDING:] = 0
        mask[2:3, :PADDING] = 0
    return mask


def _vocabularies(path: Path) -> dict[str, int]:
    """Return how many rows the tables have that are looked up by an input itself."""
    graph = read_graph(path).graph
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in rows:
            name, size = node.input[1], rows[node.input[0]]
            found[name] = min(size, found.get(name, size))
    return found
