"""What the reference answered, kept on disk where several large graphs are measured in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retort.cases import Case

if TYPE_CHECKING:
    from onnx_configs.base import Tensors

    Answered = Iterable[tuple[Case, Tensors]]


def kept_on_disk(answered: Answered, folder: Path) -> Iterator[tuple[Case, Tensors]]:
    """Yield batches with what was answered, mapped from files in a folder."""
    for number, (case, outputs) in enumerate(answered):
        kept = {}
        for position, (name, values) in enumerate(outputs.items()):
            path = folder / f"{number}-{position}.npy"
            content = BytesIO()
            np.save(content, values)  # to a file itself, numpy does not say that the disk is full
            path.write_bytes(content.getbuffer())
            kept[name] = np.load(path, mmap_mode="r")
        yield case, kept
