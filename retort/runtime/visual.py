"""Queries and images of pages to token embeddings, and their scores: ColPali and ColQwen2."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from retort.errors import InputError
from retort.runtime.batching import check_text, check_texts, in_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.heatmap import draw_heatmap
from retort.runtime.image_settings import ImageInputs
from retort.runtime.images import image_list, image_name, is_image, load_image
from retort.runtime.maxsim import Floats, maxsim
from retort.runtime.qwen2_images import Qwen2Images
from retort.runtime.siglip_images import SiglipImages
from retort.runtime.visual_inputs import IMAGES, VisualInputs
from retort.runtime.visual_prompts import VisualPrompts, colpali_prompts, colqwen2_prompts

if TYPE_CHECKING:
    from PIL import Image

    from retort.runtime.images import ImageSource


class VisualModel(ABC):
    """A converted ColPali or ColQwen2: a vector for each token of a query or an image.

    Args:
        folder: The converted folder, with the checkpoint's processor files.
        graph: Its graph; one without images encodes queries alone.

    Raises:
        InputError: A file of the folder cannot be used.
    """

    family: ClassVar[str]

    def __init__(self, folder: Folder, graph: Graph) -> None:
        self.graph = graph
        images = self._read_images(folder) if IMAGES in graph.inputs else None
        self._inputs = VisualInputs(graph, self._read_prompts(folder), images)

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family is of this one."""
        return folder.mapping("config.json").get("model_type") == cls.family

    @cached_property
    def dimension(self) -> int:
        """The length of a token's vector."""
        return int(self._inputs.queries([""])[0].shape[1])

    def encode_queries(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        show_progress: bool | None = None,
    ) -> Floats | list[Floats]:
        """Return the token embeddings of queries.

        Args:
            texts: One query or several.
            batch_size: Texts that are run together; texts of like length share a batch.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Returns:
            For each text float32 ``[tokens, dimension]``, of unit length; the tokens of the
            processor's prefix and suffix are among them. One str gives one array, several give
            a list in their order.

        Raises:
            InputError: A text is not a str.
        """
        rows = check_texts(texts)
        found = in_batches(
            [len(text) for text in rows],
            lambda batch: self._inputs.queries([rows[index] for index in batch]),
            batch_size,
            show_progress,
        )
        return found[0] if isinstance(texts, str) else found

    def encode_images(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        batch_size: int = 1,
        show_progress: bool | None = None,
    ) -> Floats | list[Floats]:
        """Return the token embeddings of images of pages.

        Args:
            images: A path, a PIL image, or several of them. Files are turned as their EXIF
                orientation says, PIL images are taken as they are.
            batch_size: Images that are run together. One page fills a processor by itself, and
                takes memory with the square of its patches.
            show_progress: Whether to show a progress bar; None: on a terminal.

        Returns:
            For each image float32 ``[tokens, dimension]``, of unit length; the tokens of the
            processor's prompt are among them. One image gives one array, several give a list in
            their order.

        Raises:
            InputError: An image cannot be read or used, the graph takes text alone, or Pillow is
                missing.
        """
        self._inputs.require_images()
        pages = [images] if is_image(images) else image_list(images)
        names = [image_name(page, index) for index, page in enumerate(pages)]
        named = list(zip(pages, names, strict=True))
        # All are looked at first, so that a bad one is told before the others' long work.
        found = in_batches(
            [self._inputs.part_count(page, name) for page, name in named],
            lambda batch: self._inputs.pages([load_image(*named[index]) for index in batch]),
            batch_size,
            show_progress,
        )
        return found[0] if is_image(images) else found

    def score(self, queries: Floats | Sequence[Floats], pages: Floats | Sequence[Floats]) -> Floats:
        """Return the MaxSim of every query with every page; larger is more alike.

        Args:
            queries: Token embeddings ``[tokens, dimension]`` of each query, or of a single one.
            pages: The same of the images.

        Returns:
            Float32 ``[queries, pages]``.

        Raises:
            InputError: Something is no matrix of numbers, or the dimensions differ.
        """
        return maxsim(queries, pages)

    def similarity_maps(self, query: Floats, page: Floats, image: ImageSource) -> Floats:
        """Return how alike each token of a query is to each part of a page.

        Args:
            query: The query's token embeddings ``[tokens, dimension]``.
            page: The page's.
            image: The page itself.

        Returns:
            Float32 ``[tokens, rows, columns]``: cosines, the parts being in their places.

        Raises:
            InputError: The image cannot be read, or the embeddings are not of it.
        """
        name = image_name(image, 0)
        grid = self._inputs.require_images().grid(*load_image(image, name).size, name)
        parts = self._inputs.image_tokens(page, grid, name)
        alike = query @ page[parts].T
        return np.ascontiguousarray(alike).reshape(len(query), grid.rows, grid.columns)

    def heatmap(
        self,
        text: str,
        image: ImageSource,
        *,
        query: Floats | None = None,
        page: Floats | None = None,
    ) -> Image.Image:
        """Return a page coloured by how alike its parts are to a query.

        A part counts as alike as it is to any token of the text; the tokens that the processor
        adds to it are left out.

        Args:
            text: The query.
            image: The page.
            query: The query's token embeddings, if they are at hand.
            page: The page's, likewise.

        Raises:
            InputError: The image cannot be read, or the embeddings are not of it.
        """
        picture = load_image(image, image_name(image, 0))
        if query is None:
            (query,) = self.encode_queries([check_text(text)])
        if page is None:
            (page,) = self.encode_images([picture])
        own = self._inputs.prompts.own_tokens(text)
        if len(own) != len(query):
            raise InputError(f"the embeddings are {len(query)} tokens, but the query {len(own)}")
        maps = self.similarity_maps(query, page, picture)
        return draw_heatmap(picture, maps[own if own.any() else ~own].max(axis=0))

    @staticmethod
    @abstractmethod
    def _read_prompts(folder: Folder) -> VisualPrompts:
        """Return the prompts of a folder."""

    @staticmethod
    @abstractmethod
    def _read_images(folder: Folder) -> ImageInputs:
        """Return what makes images the inputs of a folder's graph."""


class ColQwen2Model(VisualModel):
    """A converted ColQwen2, which takes images at their own shape."""

    family = "colqwen2"
    _read_prompts = staticmethod(colqwen2_prompts)
    _read_images = staticmethod(Qwen2Images.read)


class ColPaliModel(VisualModel):
    """A converted ColPali, which takes images as squares of one size."""

    family = "colpali"
    _read_prompts = staticmethod(colpali_prompts)
    _read_images = staticmethod(SiglipImages.read)
