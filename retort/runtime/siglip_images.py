"""Images as SigLIP's slow processor resizes them, for ColPali (Faysse et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.image_settings import COLOURS, Grid, ImageSettings, PixelValues

if TYPE_CHECKING:
    from PIL import Image

MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SiglipImages:
    """Images that are all squeezed to one square.

    Attributes:
        height: The height of a resized image in pixels.
        width: Its width.
        side: How many tokens an image has in a row, and in a column.
        pixels: What becomes of pixels.
    """

    height: int
    width: int
    side: int
    pixels: PixelValues

    @classmethod
    def read(cls, folder: Folder) -> SiglipImages:
        """Return the settings of a folder.

        Raises:
            InputError: The folder has none, or they cannot be used.
        """
        settings = ImageSettings(folder)
        height, width = settings.sizes("height", "width") or (224, 224)
        tokens = settings.integer("image_seq_length")
        side = math.isqrt(tokens)
        if side**2 != tokens:
            raise InputError(f"{settings.path}: image_seq_length is {tokens}, which is no square")
        return cls(height, width, side, settings.pixel_values(MEAN, STD))

    def grid(self, width: int, height: int, name: str) -> Grid:
        """Return how an image's tokens lie on it: alike on all, whatever their size."""
        return Grid(self.side, self.side)

    def feeds(self, images: list[Image.Image]) -> dict[str, npt.NDArray[Any]]:
        """Return ``pixel_values`` of RGB images, float32 ``[images, 3, height, width]``."""
        pixels = [self.pixels.of(image, self.width, self.height) for image in images]
        return {"pixel_values": np.stack(pixels)}

    def no_images(self, batch: int) -> dict[str, npt.NDArray[Any]]:
        """Return ``pixel_values`` of no images, which stand for any batch of text alone."""
        return {"pixel_values": np.zeros((0, COLOURS, self.height, self.width), dtype=np.float32)}
