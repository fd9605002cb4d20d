"""What transformers' slow image processors do to pixels, as the folder's settings say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.folder import Folder

if TYPE_CHECKING:
    from PIL import Image

Floats = npt.NDArray[np.float32]

CONFIG = "preprocessor_config.json"
COLOURS = 3
LEVELS = 256
# Pillow's numbers of the filters that resize.
FILTERS = range(6)
BICUBIC = 3


@dataclass(frozen=True)
class Grid:
    """How the tokens of an image lie on it: row by row, from its upper left corner."""

    rows: int
    columns: int


class ImageInputs(Protocol):
    """What makes images the inputs of a graph."""

    def grid(self, width: int, height: int, name: str) -> Grid:
        """Return how the tokens of an image of this size lie on it."""

    def feeds(self, images: list[Image.Image]) -> dict[str, npt.NDArray[Any]]:
        """Return the image inputs of a graph for RGB images."""

    def no_images(self, batch: int) -> dict[str, npt.NDArray[Any]]:
        """Return the image inputs that stand for a batch of text alone."""


@dataclass(frozen=True)
class PixelValues:
    """What a processor makes of the 256 levels of red, green and blue.

    Attributes:
        table: Float32 ``[3, 256]``.
        resample: Pillow's number of the filter that resizes.
    """

    table: Floats
    resample: int

    def of(self, image: Image.Image, width: int, height: int) -> Floats:
        """Return an RGB image at another size, float32 ``[3, height, width]``.

        An image one or three pixels high is read like any other, while transformers takes its
        rows for colours.
        """
        resized = image.resize((width, height), resample=self.resample)
        levels = np.asarray(resized).transpose(2, 0, 1)
        return self.table[np.arange(COLOURS)[:, None, None], levels]


class ImageSettings:
    """The image processor's settings, as transformers saves them.

    Raises:
        InputError: The folder has none, or they ask for what the runtime cannot do.
    """

    def __init__(self, folder: Folder) -> None:
        self.path = folder.path / CONFIG
        # transformers 5 keeps them inside processor_config.json.
        nested = folder.mapping("processor_config.json").get("image_processor")
        self.values: Mapping[str, Any] = folder.mapping(CONFIG) or nested or {}
        if not self.values:
            raise InputError(f"{self.path} is missing: copy it from the checkpoint")
        if self.values.get("do_resize", True) is False:
            raise InputError(f"{self.path}: do_resize is false, but images must be resized")

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a positive whole number; ``default`` where it is not given."""
        value = self._given(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{self.path}: {name} is {value!r}: correct it to a positive integer")
        return value

    def sizes(self, first: str, second: str) -> tuple[int, int] | None:
        """Return two entries of ``size``; None: there is no ``size``."""
        size = self.values.get("size")
        if size is None:
            return None
        try:
            return int(size[first]), int(size[second])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.path}: size is {size!r}: correct it to {first} and {second}"
            ) from error

    def pixel_values(self, mean: tuple[float, ...], std: tuple[float, ...]) -> PixelValues:
        """Return what becomes of pixels; ``mean`` and ``std`` are used where none are given."""
        levels = np.tile(np.arange(LEVELS, dtype=np.float64), (COLOURS, 1))
        if self.values.get("do_rescale", True):
            levels *= self._numbers("rescale_factor", (1 / 255,))
        # The processors round to float32 between the two steps.
        table = levels.astype(np.float32)
        if self.values.get("do_normalize", True):
            table -= self._numbers("image_mean", mean).astype(np.float32)
            table /= self._numbers("image_std", std).astype(np.float32)
        resample = self._given("resample", BICUBIC)
        if resample not in FILTERS:
            raise InputError(f"{self.path}: resample is {resample!r}: Pillow has no such filter")
        return PixelValues(table, int(resample))

    def _numbers(self, name: str, default: tuple[float, ...]) -> npt.NDArray[np.float64]:
        """Return one number for each colour, or one for all, as a column."""
        value = self._given(name, default)
        try:
            numbers = np.asarray(value, dtype=np.float64).reshape(-1, 1)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: {name} is {value!r}: correct it") from error
        if len(numbers) not in {1, COLOURS}:
            raise InputError(f"{self.path}: {name} has {len(numbers)} numbers, but images have 3")
        return numbers

    def _given(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        return default if value is None else value
