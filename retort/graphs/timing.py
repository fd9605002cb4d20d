"""Timing of ONNX Runtime sessions on a noisy machine: interleaved, minimum over rounds."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retort.graphs.made_up_inputs import TYPES

# A session's threads spin for tens of milliseconds after run() and slow whatever comes next.
PAUSE_SECONDS = 0.1
SHAPES = ((1, 32), (8, 128))


def shapes_up_to(longest: int) -> list[tuple[int, int]]:
    """Return the shapes that are timed, none longer than the longest input."""
    return [(batch, min(length, longest)) for batch, length in SHAPES]


def token_inputs(session: Any, shape: tuple[int, int], vocabulary: int) -> dict[str, Any]:
    """Return random int64 ``[batch, sequence]`` tokens without padding, and no images."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, shape, dtype=np.int64)
    filled = {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "token_type_ids": np.zeros_like(tokens),
    }
    return {
        value.name: filled[value.name].astype(TYPES[value.type], copy=False)
        if value.name in filled
        else nothing(value, shape)
        for value in session.get_inputs()
    }


def fits(session: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether a graph's token inputs may have this shape, ``[batch, sequence]``."""
    declared = {value.name: value.shape for value in session.get_inputs()}["input_ids"]
    sizes = zip(declared, shape, strict=True)
    return all(size == given for size, given in sizes if isinstance(size, int))


def nothing(value: Any, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return zeros for an input of a graph; of images, whose number is dynamic, there are none."""
    sizes = {"batch_size": shape[0], "sequence_length": shape[1]}
    dimensions = [size if isinstance(size, int) else sizes.get(size, 0) for size in value.shape]
    return np.zeros(dimensions, np.int64 if "int64" in value.type else np.float32)


def fastest_seconds(
    sessions: Mapping[str, Any],
    vocabulary: int,
    *,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    rounds: int = 3,
    budget_seconds: float = 0.1,
) -> dict[str, list[float]]:
    """Return each session's fastest run at each shape, in seconds; NaN where it takes no such one.

    Every round visits all sessions and shapes in a new random order, pauses, warms up, and then
    repeats the run within the budget.
    """
    inputs = {
        (name, shape): token_inputs(session, shape, vocabulary)
        for name, session in sessions.items()
        for shape in shapes
        if fits(session, shape)
    }
    fastest = dict.fromkeys(inputs, float("inf"))
    order = list(inputs)
    generator = random.Random(0)
    for _ in range(rounds):
        generator.shuffle(order)
        for key in order:
            time.sleep(PAUSE_SECONDS)
            seconds = _fastest_run(sessions[key[0]], inputs[key], budget_seconds)
            fastest[key] = min(fastest[key], seconds)
    return {name: [fastest.get((name, s), math.nan) for s in shapes] for name in sessions}


def speed_against(baseline: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Return how many times faster than the baseline each figure is."""
    return [round(slow / fast, 2) for slow, fast in zip(baseline, seconds, strict=True)]


def _fastest_run(session: Any, inputs: Mapping[str, Any], budget_seconds: float) -> float:
    session.run(None, inputs)
    fastest, spent = float("inf"), 0.0
    while spent < budget_seconds:
        started = time.perf_counter()
        session.run(None, inputs)
        seconds = time.perf_counter() - started
        fastest, spent = min(fastest, seconds), spent + seconds
    return fastest
