"""Queries and images through the graph of a ColPali or ColQwen2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.graph import Graph
from retort.runtime.image_settings import Grid, ImageInputs
from retort.runtime.images import image_size
from retort.runtime.maxsim import Floats
from retort.runtime.visual_prompts import VisualPrompts

if TYPE_CHECKING:
    from PIL import Image

    from retort.runtime.images import ImageSource

OUTPUT = "embeddings"
OUTPUT_RANK = 3
IMAGES = "pixel_values"


class VisualInputs:
    """A graph with what makes queries and images its inputs.

    Args:
        graph: The graph.
        prompts: What surrounds a query, and what surrounds a page.
        images: What makes images its inputs; None: it takes text alone.

    Raises:
        InputError: The graph has no token embeddings.
    """

    def __init__(self, graph: Graph, prompts: VisualPrompts, images: ImageInputs | None) -> None:
        self.graph = graph
        self.prompts = prompts
        self._images = images
        if graph.outputs.get(OUTPUT) != OUTPUT_RANK:
            raise InputError(
                f"{graph.path} has the outputs {', '.join(graph.outputs)}, but no token "
                f"embeddings named {OUTPUT}: convert the checkpoint again"
            )

    def require_images(self) -> ImageInputs:
        """Return what makes images the graph's inputs.

        Raises:
            InputError: The graph takes text alone.
        """
        if self._images is None:
            raise InputError(
                f"{self.graph.path} takes text alone: open the graph that takes images too, or "
                "convert the checkpoint with --visual_variant combined"
            )
        return self._images

    def queries(self, texts: Sequence[str]) -> list[Floats]:
        """Return the token embeddings of one batch of queries, float32 ``[tokens, dimension]``."""
        images = self._images.no_images(len(texts)) if self._images else {}
        return self._run(self.prompts.queries(texts), images)

    def pages(self, images: list[Image.Image]) -> list[Floats]:
        """Return the token embeddings of one batch of pages, float32 ``[tokens, dimension]``."""
        counts = [self.part_count(image, "image") for image in images]
        return self._run(self.prompts.pages(counts), self.require_images().feeds(images))

    def part_count(self, image: ImageSource, name: str) -> int:
        """Return how many parts, and so tokens, an image has.

        Raises:
            InputError: It cannot be read or used; the message begins with its name.
        """
        grid = self.require_images().grid(*image_size(image, name), name)
        return grid.rows * grid.columns

    def image_tokens(self, page: Floats, grid: Grid, name: str) -> slice:
        """Return which of a page's tokens are the parts of its image, row by row.

        Raises:
            InputError: The page has another number of tokens than an image of this grid.
        """
        first, count = self.prompts.image, grid.rows * grid.columns
        if len(page) != len(self.prompts.page) - 1 + count:
            raise InputError(
                f"{name} has {grid.rows} × {grid.columns} parts, but its embeddings are "
                f"{len(page)} tokens: encode it with this model"
            )
        return slice(first, first + count)

    def _run(
        self, tokens: dict[str, npt.NDArray[np.int64]], images: Mapping[str, npt.NDArray[Any]]
    ) -> list[Floats]:
        """Return the token embeddings of one batch, without padding."""
        embeddings = self.graph.run({**tokens, **images}, OUTPUT)
        kept = tokens["attention_mask"] != 0
        return [row[counted] for row, counted in zip(embeddings, kept, strict=True)]
