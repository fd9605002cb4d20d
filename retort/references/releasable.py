"""The untouched model, whose memory can be had for the graphs once it has answered."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_configs.base import Reference, Tensors


class ReleasableReference:
    """A family's reference that can be let go; it is loaded again when it is next asked.

    Args:
        load: Loads the reference; called at once.
    """

    def __init__(self, load: Callable[[], Reference]) -> None:
        self._load = load
        self._loaded: Reference | None = load()
        self.library = self._loaded.library
        self.max_length = self._loaded.max_length

    @property
    def loaded(self) -> Reference:
        """The family's own reference."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def release(self) -> None:
        """Let the model go."""
        self._loaded = None
        gc.collect()  # libraries' models are in reference cycles

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return int64 ``[batch, sequence]`` inputs by name, as the library tokenizes."""
        return self.loaded.tokenize(texts, padding_side)

    def run(self, inputs: Tensors) -> Tensors:
        """Return float32 outputs under the graph's output names."""
        return self.loaded.run(inputs)
