"""The functions between a classifier's logits and its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from retort.errors import InputError

Floats = npt.NDArray[np.float32]

NEW_SETTINGS = "sentence_transformers"  # since version 4, a table in config.json
NEW_KEY = "activation_fn"
OLD_KEY = "sbert_ce_default_activation_function"


def identity(logits: Floats) -> Floats:
    """Return the logits."""
    return logits


def sigmoid(logits: Floats) -> Floats:
    """Return each logit's probability by itself, exact for those near 0 as well."""
    with np.errstate(over="ignore"):  # exp(-x) is infinite below -709, and the result is then 0
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), dtype=np.float32)


def softmax(logits: Floats) -> Floats:
    """Return probabilities that sum to 1 over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def tanh(logits: Floats) -> Floats:
    """Return the hyperbolic tangents."""
    return np.tanh(logits)


def relu(logits: Floats) -> Floats:
    """Return the logits, 0 instead of those below it."""
    return np.maximum(logits, 0)


# The names are those of torch.nn in lower case.
ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "identity": identity,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "tanh": tanh,
    "relu": relu,
}


def activation_named(name: str) -> Callable[[Floats], Floats]:
    """Return the activation of a name.

    Raises:
        InputError: There is none of that name.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"no activation is called {name!r}: choose from {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def is_cross_encoder(config: Mapping[str, Any]) -> bool:
    """Tell whether sentence-transformers wrote a ``config.json`` for its CrossEncoder."""
    return NEW_SETTINGS in config or OLD_KEY in config


def declared_activation(config: Mapping[str, Any]) -> str | None:
    """Return the class that a CrossEncoder's ``config.json`` names, such as ``torch.nn.Sigmoid``.

    None: it names none.
    """
    settings = config.get(NEW_SETTINGS)
    if isinstance(settings, Mapping) and NEW_KEY in settings:
        return settings[NEW_KEY]
    return config.get(OLD_KEY)


def default_activation(config: Mapping[str, Any], labels: int) -> str:
    """Return the name of the activation that ``CrossEncoder.predict`` would apply.

    Args:
        config: The content of ``config.json``.
        labels: How many labels there are.

    Returns:
        A key of ``ACTIVATIONS``, or whatever else the configuration names.
    """
    declared = declared_activation(config)
    if declared is None:
        return "sigmoid" if labels == 1 else "identity"
    package, _, name = str(declared).rpartition(".")
    return name.lower() if package.startswith("torch.nn") else str(declared)


def pipeline_activation(config: Mapping[str, Any], labels: int) -> str:
    """Return the name of the activation that transformers' text-classification pipeline applies.

    Args:
        config: The content of ``config.json``.
        labels: How many labels there are.
    """
    kind = config.get("problem_type")
    if kind == "regression":
        return "identity"
    return "sigmoid" if kind == "multi_label_classification" or labels == 1 else "softmax"
