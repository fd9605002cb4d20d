"""The .npz file that ``retort encode --out`` saves, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.output.exchange import partial_path

SUFFIX = ".npz"


def check_place(path: Path) -> None:
    """Refuse, before anything is computed, a place where no arrays can be saved.

    Raises:
        InputError: If the name is not one of an .npz file, so that no graph or text is written
            over, or there is no such folder.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"--out {path}: arrays are saved as {SUFFIX}; call it {path.stem}{SUFFIX}")
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; make it")


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Save arrays by name; a file that is there stays as it was until the new one is whole.

    Raises:
        InputError: If the file cannot be written.
    """
    target = path.resolve()  # of a link what it points at
    new = partial_path(target)
    by_name: dict[str, Any] = dict(arrays)
    try:
        with new.open("wb") as stream:
            np.savez(stream, **by_name)
        new.replace(target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        new.unlink(missing_ok=True)
