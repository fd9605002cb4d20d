"""What the files of a SPLADE folder say: its pooling, and how its texts are prepared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.folder import Folder, read_json
from retort.runtime.pooling import Floats
from retort.runtime.sentence_modules import TRANSFORMER_CONFIGS

POOLING = "SpladePooling"
ROUTER = "Router"
ROUTER_FILE = "router_config.json"
STRATEGIES = ("max", "sum")
ACTIVATIONS = ("relu", "log1p_relu")


@dataclass(frozen=True)
class SpladePooling:
    """How the logits of a text's tokens become the weights of its terms.

    Attributes:
        strategy: ``max`` or ``sum``, over the tokens.
        activation: ``relu``, after which a logarithm is taken, or ``log1p_relu``, after which
            another one is.
    """

    strategy: str = "max"
    activation: str = "relu"

    def apply(self, logits: Floats, mask: npt.NDArray[np.int64]) -> Floats:
        """Return the weights, float32 ``[batch, vocabulary]``.

        Args:
            logits: Float32 ``[batch, sequence, vocabulary]``.
            mask: 1 for tokens that count, int64 ``[batch, sequence]``.
        """
        # Text by text, as all tokens of a batch over a vocabulary are a lot of memory.
        rows = [self._row(tokens[kept]) for tokens, kept in zip(logits, mask != 0, strict=True)]
        return np.stack(rows)

    def _row(self, tokens: Floats) -> Floats:
        if self.strategy == "sum":
            return self._activated(tokens).sum(axis=0)
        # The activation keeps the order, so that it can wait for one row instead of many.
        return self._activated(tokens.max(axis=0, initial=0))

    def _activated(self, logits: Floats) -> Floats:
        weights = np.log1p(np.maximum(logits, 0))
        return np.log1p(weights) if self.activation == "log1p_relu" else weights


@dataclass(frozen=True)
class SparseSettings:
    """What a folder says of its documents, and of queries that go through its graph.

    Attributes:
        pooling: What follows the logits; SparseEncoder's default where no file says it.
        max_length: The longest text in tokens, special tokens included; None: not said.
        do_lower_case: Whether texts are lowered before they are tokenized.
    """

    pooling: SpladePooling
    max_length: int | None
    do_lower_case: bool

    @classmethod
    def read(cls, folder: Folder) -> SparseSettings:
        """Return what the files of sentence-transformers say.

        Raises:
            InputError: The pooling is not one of SPLADE's.
        """
        place = _pooling_place(folder)
        transformer = folder.mapping(*TRANSFORMER_CONFIGS)
        return cls(
            pooling=SpladePooling() if place is None else _pooling(folder, place),
            max_length=transformer.get("max_seq_length"),
            do_lower_case=bool(transformer.get("do_lower_case", False)),
        )


def has_splade_pooling(folder: Folder) -> bool:
    """Return whether the folder's modules, or its Router's document side, pool as SPLADE does."""
    return _pooling_place(folder) is not None


def has_own_queries(folder: Folder) -> bool:
    """Return whether a Router sends queries elsewhere than documents."""
    routes = folder.mapping(ROUTER_FILE).get("structure", {})
    return "query" in routes and routes["query"] != routes.get("document")


def _pooling_place(folder: Folder) -> str | None:
    """Return the path of the documents' pooling in the folder; None: there is none."""
    path = folder.path / "modules.json"
    entries = read_json(path) if path.is_file() else []
    modules = {_name(entry["type"]): str(entry["path"]) for entry in entries}
    if ROUTER in modules:
        router = folder.mapping(ROUTER_FILE)
        places = router.get("structure", {}).get("document", [])
        # A module's name in a Router is its path.
        modules = {_name(router.get("types", {}).get(place)): str(place) for place in places}
    return modules.get(POOLING)


def _name(kind: object) -> str:
    return str(kind).rpartition(".")[2]


def _pooling(folder: Folder, place: str) -> SpladePooling:
    path = folder.path / place / "config.json"
    if not path.is_file():
        raise InputError(f"{path} is missing: copy it from the checkpoint")
    config = folder.mapping(f"{place}/config.json")
    pooling = SpladePooling(
        config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    )
    if pooling.strategy not in STRATEGIES or pooling.activation not in ACTIVATIONS:
        raise InputError(
            f"{path}: no {pooling.strategy} of {pooling.activation} "
            f"is known, but {' or '.join(STRATEGIES)} of {' or '.join(ACTIVATIONS)}: correct it"
        )
    return pooling
