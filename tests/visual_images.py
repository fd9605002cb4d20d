"""Images of odd sizes and modes, made at test time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

SIDEWAYS = 6  # EXIF: the camera was turned, so that what is stored lies on its side


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return smooth colours, so that filters and places matter, with some grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int64)
    grain = random.integers(-30, 31, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def translucent(width: int, height: int) -> Image.Image:
    """Return an RGBA image whose opacity grows from left to right."""
    image = noise(width, height, seed=1)
    image.putalpha(Image.linear_gradient("L").rotate(90).resize((width, height)))
    return image


@cache
def odd_images() -> Mapping[str, Image.Image]:
    """Return images by what is odd about them."""
    deep = np.arange(40 * 30, dtype=np.uint16).reshape(30, 40) // 4
    see_through = noise(50, 41).quantize(16)
    see_through.info["transparency"] = 3
    return {
        "plain": noise(61, 97),
        "grey": noise(75, 33).convert("L"),
        "grey with alpha": translucent(44, 45).convert("LA"),
        "translucent": translucent(83, 59),
        "CMYK": noise(40, 90).convert("CMYK"),
        "palette": noise(71, 64).quantize(7),
        "palette with a transparent colour": see_through,
        "black and white": noise(65, 34).convert("1"),
        "16-bit grey": Image.fromarray(deep),
        "floating point": noise(31, 47).convert("F"),
        "very wide": noise(1400, 8),
        "very tall": noise(9, 1300),
        "tiny": noise(2, 5),
        "one pixel wide": noise(1, 80),
        "one patch already": noise(28, 28),
        "halves of a window": noise(70, 42),
        "large": noise(1507, 2011),
    }


def save_sideways(path: Path) -> Path:
    """Write a JPEG that viewers turn, the first half of its rows being red."""
    image = noise(80, 50, seed=2)
    image.paste((200, 20, 20), (0, 0, 80, 25))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = SIDEWAYS
    image.save(path, quality=95, exif=exif)
    return path
