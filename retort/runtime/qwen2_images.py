"""Images as Qwen2-VL's slow processor cuts them into patches (Wang et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.image_settings import COLOURS, Floats, Grid, ImageSettings, PixelValues

if TYPE_CHECKING:
    from PIL import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MIN_PIXELS, MAX_PIXELS = 56 * 56, 28 * 28 * 1280
MOST_ELONGATED = 200


@dataclass(frozen=True)
class Qwen2Images:
    """Images of any size, resized to whole windows of patches within limits of area.

    Attributes:
        min_pixels: The least area of a resized image.
        max_pixels: The largest.
        patch_size: The side of a patch in pixels.
        merge_size: The side of a window, whose patches become one token, in patches.
        temporal_patch_size: How often an image stands in each of its patches.
        pixels: What becomes of pixels.
    """

    min_pixels: int
    max_pixels: int
    patch_size: int
    merge_size: int
    temporal_patch_size: int
    pixels: PixelValues

    @classmethod
    def read(cls, folder: Folder) -> Qwen2Images:
        """Return the settings of a folder.

        ``min_pixels`` and ``max_pixels`` go before ``size``. transformers before 5 overlooks a
        ``size`` without them, which its fast processor and later releases obey.

        Raises:
            InputError: The folder has none, or they cannot be used.
        """
        settings = ImageSettings(folder)
        least, most = settings.sizes("shortest_edge", "longest_edge") or (MIN_PIXELS, MAX_PIXELS)
        return cls(
            min_pixels=settings.integer("min_pixels", least),
            max_pixels=settings.integer("max_pixels", most),
            patch_size=settings.integer("patch_size", 14),
            merge_size=settings.integer("merge_size", 2),
            temporal_patch_size=settings.integer("temporal_patch_size", 2),
            pixels=settings.pixel_values(CLIP_MEAN, CLIP_STD),
        )

    @property
    def values(self) -> int:
        """How many numbers a patch has."""
        return COLOURS * self.temporal_patch_size * self.patch_size**2

    def grid(self, width: int, height: int, name: str) -> Grid:
        """Return how the tokens of an image of this size lie on it.

        Raises:
            InputError: The image is too long and narrow.
        """
        if max(width, height) > MOST_ELONGATED * min(width, height):
            raise InputError(
                f"{name} is {width} × {height} pixels, longer than {MOST_ELONGATED} times its "
                "width: cut it into pages"
            )
        side = self.patch_size * self.merge_size
        # round() takes halves to the even neighbour, as the processor does.
        rows, columns = round(height / side), round(width / side)
        area = rows * columns * side**2
        if area > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows = max(1, math.floor(height / shrink / side))
            columns = max(1, math.floor(width / shrink / side))
        elif area < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = math.ceil(height * grow / side), math.ceil(width * grow / side)
        return Grid(rows, columns)

    def feeds(self, images: list[Image.Image]) -> dict[str, npt.NDArray[Any]]:
        """Return the image inputs of a graph for RGB images.

        Returns:
            ``pixel_values``, float32 ``[batch, patches, values]``, zeros behind the patches of
            smaller images, and ``image_grid_thw``, int64 ``[batch, 3]``, in patches.
        """
        grids = [self.grid(*image.size, f"image {i}") for i, image in enumerate(images)]
        rows = [self._patches(image, grid) for image, grid in zip(images, grids, strict=True)]
        inputs = self.no_images(len(images), max(len(patches) for patches in rows))
        for index, (patches, grid) in enumerate(zip(rows, grids, strict=True)):
            inputs["pixel_values"][index, : len(patches)] = patches
            height, width = grid.rows * self.merge_size, grid.columns * self.merge_size
            inputs["image_grid_thw"][index] = (1, height, width)
        return inputs

    def no_images(self, batch: int, patches: int = 0) -> dict[str, npt.NDArray[Any]]:
        """Return the image inputs that stand for a batch of text alone, all zeros."""
        return {
            "pixel_values": np.zeros((batch, patches, self.values), dtype=np.float32),
            "image_grid_thw": np.zeros((batch, 3), dtype=np.int64),
        }

    def _patches(self, image: Image.Image, grid: Grid) -> Floats:
        """Return ``[patches, values]``, window by window."""
        window, patch = self.merge_size, self.patch_size
        side = window * patch
        pixels = self.pixels.of(image, grid.columns * side, grid.rows * side)
        cut = pixels.reshape(COLOURS, grid.rows, window, patch, grid.columns, window, patch)
        # To: window's row and column, patch's row and column in it, colour, pixel's row and column.
        patches = cut.transpose(1, 4, 2, 5, 0, 3, 6)[..., None, :, :]
        repeated = np.repeat(patches, self.temporal_patch_size, axis=5)
        return repeated.reshape(-1, self.values)
