"""ColPali: visual document retrieval on PaliGemma, for text, images and batches of both.

Output ``embeddings`` ``[batch, sequence, dim]``, L2-normalised, zero for padding. Images come as
``pixel_values`` ``[num_images, 3, height, width]``, one for each row that has image tokens, in the
rows' order. Faysse et al. 2024 (ColPali), Beyer et al. 2024 (PaliGemma).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnx_configs.base import Reference
from onnx_configs.visual_base import VisualFamily
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.runtime.folder import Folder
from retort.runtime.visual_prompts import VisualPrompts, colpali_prompts

if TYPE_CHECKING:
    import torch


class ColPaliFamily(VisualFamily):
    """``ColPaliForRetrieval`` checkpoints."""

    name = "colpali"
    architecture = "ColPaliForRetrieval"
    image_inputs = {"pixel_values": {0: "num_images"}}  # noqa: RUF012

    def graph(self, model: Any, *, images: bool) -> torch.nn.Module:
        """Return the graph with image features gathered by the number of their token."""
        from retort.graphs.paligemma_visual import ColPaliGraph

        return ColPaliGraph(model, images=images)

    def dummies(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        """Return a row of text between two with images."""
        import torch

        vision = checkpoint.config["vlm_config"]["vision_config"]
        size = int(vision.get("image_size") or 224)
        tokens = (size // int(vision.get("patch_size") or 16)) ** 2
        ids = torch.full((3, tokens + 3), 3)
        ids[0, :tokens] = ids[2, 1 : tokens + 1] = self.image_token(checkpoint)
        mask = torch.ones_like(ids)
        mask[1, 2:], mask[2, 0] = 0, 0
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "pixel_values": torch.randn(2, 3, size, size),
        }

    def image_token(self, checkpoint: Checkpoint) -> int:
        """Return the image token's id, which PaliGemma's configuration may call an index."""
        vlm = checkpoint.config["vlm_config"]
        return int(vlm.get("image_token_index") or vlm.get("image_token_id") or 256000)

    def prompts(self, folder: Folder) -> VisualPrompts:
        """Return ColPali's."""
        return colpali_prompts(folder)

    def no_images(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Return no images of the checkpoint's size."""
        size = int(checkpoint.config["vlm_config"]["vision_config"].get("image_size") or 224)
        return {"pixel_values": f"np.zeros((0, 3, {size}, {size}), np.float32)"}

    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Reference:
        """Load the untouched model and its processor."""
        from retort.references.visual import ColPaliReference

        return ColPaliReference(checkpoint, self.maximum_length(checkpoint))


FAMILY = ColPaliFamily()
