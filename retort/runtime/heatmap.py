"""Drawing over a page how much each of its parts is alike to a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retort.runtime.images import pillow

if TYPE_CHECKING:
    from PIL import Image

# From the least alike to the most: how dark blue, green and red end up over white paper.
COLD, MIDDLE, HOT = "#30123b", "#35d0a0", "#e8280a"
STRENGTH = 0.5


def draw_heatmap(page: Image.Image, similarity: npt.NDArray[np.float32]) -> Image.Image:
    """Return a page under the colours of a map of similarities.

    Args:
        page: The page in RGB.
        similarity: Float32 ``[rows, columns]``; the least value is drawn coldest, the largest
            hottest.
    """
    from PIL import ImageOps

    least, most = float(similarity.min()), float(similarity.max())
    heat = (similarity - least) / ((most - least) or 1.0)
    small = pillow().fromarray(np.rint(heat * 255).astype(np.uint8))
    grown = small.resize(page.size, resample=pillow().Resampling.BILINEAR)
    colours = ImageOps.colorize(grown, black=COLD, mid=MIDDLE, white=HOT)
    return pillow().blend(page, colours, STRENGTH)
