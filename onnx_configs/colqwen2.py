"""ColQwen2: visual document retrieval on Qwen2-VL, for text, images and batches of both.

Output ``embeddings`` ``[batch, sequence, dim]``, L2-normalised, zero for padding. An image comes
as ``pixel_values`` ``[batch, patches, pixels]`` and ``image_grid_thw`` ``[batch, 3]``; a batch of
text has no patches. Faysse et al. 2024 (ColPali), Wang et al. 2024 (Qwen2-VL).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnx_configs.base import BATCH_AXES, Reference
from onnx_configs.visual_base import VisualFamily
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.visual_prompts import VisualPrompts, colqwen2_prompts

if TYPE_CHECKING:
    import torch

PATCHES_AXES = {0: "batch_size", 1: "patches"}


class ColQwen2Family(VisualFamily):
    """``ColQwen2ForRetrieval`` checkpoints."""

    name = "colqwen2"
    architecture = "ColQwen2ForRetrieval"
    image_inputs = {"pixel_values": PATCHES_AXES, "image_grid_thw": BATCH_AXES}  # noqa: RUF012

    def check(self, checkpoint: Checkpoint, arguments: ExportArguments) -> None:
        """Refuse windows in attention, which the vectorised graph has not."""
        super().check(checkpoint, arguments)
        if self.language_config(checkpoint).get("use_sliding_window"):
            raise InputError(
                f"{checkpoint.backbone / 'config.json'}: use_sliding_window is on, and no graph of "
                "Retort has sliding windows; ask for it in an issue"
            )

    def graph(self, model: Any, *, images: bool) -> torch.nn.Module:
        """Return the graph with positions from arithmetic on the image grids."""
        from retort.graphs.qwen2_visual import ColQwen2Graph

        return ColQwen2Graph(model, images=images)

    def dummies(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        """Return a row of text, and images of two shapes."""
        import torch

        vlm = checkpoint.config["vlm_config"]
        vision = vlm.get("vision_config") or {}
        side = int(vision.get("spatial_merge_size") or 2)
        pixels = self._pixels(checkpoint)
        grid = torch.tensor([[1, 2 * side, side], [0, 0, 0], [1, side, side]])
        ids = torch.full((3, 5), 3)
        ids[0, 1:3] = ids[2, 2:3] = self.image_token(checkpoint)
        mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "pixel_values": torch.randn(3, 2 * side * side, pixels),
            "image_grid_thw": grid,
        }

    def image_token(self, checkpoint: Checkpoint) -> int:
        """Return ``image_token_id``, where the configuration leaves it out Qwen2-VL's."""
        return int(checkpoint.config["vlm_config"].get("image_token_id", 151655))

    def prompts(self, folder: Folder) -> VisualPrompts:
        """Return ColQwen2's."""
        return colqwen2_prompts(folder)

    def no_images(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Return no patches, and a grid of none."""
        return {
            "pixel_values": f"np.zeros((1, 0, {self._pixels(checkpoint)}), np.float32)",
            "image_grid_thw": "np.zeros((1, 3), np.int64)",
        }

    def _pixels(self, checkpoint: Checkpoint) -> int:
        vision = checkpoint.config["vlm_config"].get("vision_config") or {}
        frames = int(vision.get("temporal_patch_size") or 2)
        return 3 * frames * int(vision.get("patch_size") or 14) ** 2

    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Reference:
        """Load the untouched model and its processor."""
        from retort.references.visual import ColQwen2Reference

        return ColQwen2Reference(checkpoint, self.maximum_length(checkpoint))


FAMILY = ColQwen2Family()
