"""ColQwen2 and ColPali in PyTorch: the untouched transformers model and its processor."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from onnx_configs.base import Tensors
from retort.artifact import Checkpoint

# Of the validation texts, these many become pages: images cost much more than texts.
ONE_IMAGE_IN = 19
LONGEST_CAPTION = 200


class VisualReference(ABC):
    """A model for retrieval and its processor; some texts become images, to mix both in a batch."""

    architecture: ClassVar[str]

    def __init__(self, checkpoint: Checkpoint, max_length: int) -> None:
        import torch
        import transformers

        self.library = f"transformers {transformers.__version__}"
        self.max_length = max_length
        kind = getattr(transformers, self.architecture)
        self.model: Any = kind.from_pretrained(
            checkpoint.backbone, dtype=torch.float32, local_files_only=True
        ).eval()
        self.processor: Any = transformers.AutoProcessor.from_pretrained(
            checkpoint.backbone, local_files_only=True
        )

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return queries, and for some texts an image, in rows of one batch."""
        rows = [self._row(text) for text in texts]
        width = max(len(row["input_ids"][0]) for row in rows)
        pad = self.processor.tokenizer.pad_token_id
        ids = np.full((len(rows), width), pad, np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            length = len(row["input_ids"][0])
            place = slice(width - length, width) if padding_side == "left" else slice(0, length)
            ids[index, place], mask[index, place] = row["input_ids"][0], 1
        return {"input_ids": ids, "attention_mask": mask, **self.images(rows)}

    def run(self, inputs: Tensors) -> Tensors:
        """Return ``embeddings``."""
        import torch

        given = {name: torch.from_numpy(values) for name, values in self.asked(inputs).items()}
        with torch.inference_mode():
            return {"embeddings": self.model(**given).embeddings.numpy()}

    @abstractmethod
    def images(self, rows: Sequence[Tensors]) -> Tensors:
        """Return the image inputs of a batch as the graph takes them."""

    @abstractmethod
    def asked(self, inputs: Tensors) -> Tensors:
        """Return the graph's inputs as the model takes them."""

    def _row(self, text: str) -> Tensors:
        if len(text) % ONE_IMAGE_IN == 0 and len(text) < LONGEST_CAPTION:
            made = self.processor.process_images(images=[page(text)], return_tensors="pt")
            return {name: value.numpy() for name, value in made.items()}
        made = self.processor.process_queries(text=[text], return_tensors="pt")
        named = ("input_ids", "attention_mask")
        return {name: made[name].numpy()[:, : self.max_length] for name in named}


class ColQwen2Reference(VisualReference):
    """Images of any grid, padded to the batch's largest."""

    architecture = "ColQwen2ForRetrieval"

    def images(self, rows: Sequence[Tensors]) -> Tensors:
        """Return ``pixel_values`` ``[batch, patches, pixels]`` and ``image_grid_thw``."""
        config = self.model.config.vlm_config.vision_config
        pixels = config.in_channels * config.temporal_patch_size * config.patch_size**2
        patches = max(
            (row["pixel_values"].shape[1] for row in rows if "pixel_values" in row), default=0
        )
        values = np.zeros((len(rows), patches, pixels), np.float32)
        grid = np.zeros((len(rows), 3), np.int64)
        for index, row in enumerate(rows):
            if "pixel_values" in row:
                values[index, : row["pixel_values"].shape[1]] = row["pixel_values"][0]
                grid[index] = row["image_grid_thw"][0]
        return {"pixel_values": values, "image_grid_thw": grid}

    def asked(self, inputs: Tensors) -> Tensors:
        """Return the images of the rows that have one."""
        named = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        shown = inputs["image_grid_thw"][:, 0] > 0
        if not shown.any():
            return named
        images = ("pixel_values", "image_grid_thw")
        return {**named, **{name: inputs[name][shown] for name in images}}


class ColPaliReference(VisualReference):
    """Images of one size."""

    architecture = "ColPaliForRetrieval"

    def images(self, rows: Sequence[Tensors]) -> Tensors:
        """Return ``pixel_values`` ``[num_images, 3, height, width]``."""
        size = self.model.config.vlm_config.vision_config.image_size
        none = np.zeros((0, 3, size, size), np.float32)
        shown = [row["pixel_values"] for row in rows if "pixel_values" in row]
        return {"pixel_values": np.concatenate([none, *shown])}

    def asked(self, inputs: Tensors) -> Tensors:
        """Return the inputs, without images where there are none."""
        return {name: values for name, values in inputs.items() if values.size}


def page(text: str) -> Any:
    """Return a picture that a text alone decides: smooth noise of an odd size."""
    from PIL import Image

    seed = zlib.crc32(text.encode())
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(60, 260, 2))
    coarse = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)
