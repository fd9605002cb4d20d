"""ColPali, written so that one trace is right for any number of images in a batch.

Architecture: Beyer et al. 2024 (PaliGemma), Faysse et al. 2024 (ColPali).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retort.graphs.visual_layers import MASKED, MergeImages, TokenVectors


class ColPaliGraph(nn.Module):
    """``embeddings`` of text, of images, or of rows of both."""

    def __init__(self, model: Any, *, images: bool) -> None:
        super().__init__()
        vlm = model.vlm.model
        self.text = vlm.language_model
        self.words = vlm.language_model.embed_tokens
        self.vision = vlm.vision_tower if images else None
        self.projector = vlm.multi_modal_projector if images else None
        self.merge = MergeImages()
        # In float16 files what has this name stays in fp32.
        self.retort_head = TokenVectors(model.embedding_proj_layer)
        self.image_token = int(vlm.config.image_token_id)
        self.known = self.image_token < int(vlm.vocab_size)
        # The language model multiplies its input by the square root of this.
        self.scale = float(vlm.config.text_config.hidden_size) ** -0.5

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``embeddings`` ``[batch, sequence, dim]``; images come in the rows' order."""
        is_image = input_ids == self.image_token
        hidden = self.words(input_ids if self.known else torch.where(is_image, 0, input_ids))
        if self.vision is not None and self.projector is not None and pixel_values is not None:
            # A blank image where there are none: an empty one dies in Reshape.
            blank = pixel_values.new_zeros(
                (1 // (1 + pixel_values.shape[0]), *pixel_values.shape[1:])
            )
            states = self.vision(torch.cat((pixel_values, blank))).last_hidden_state
            features = (self.projector(states) * self.scale).flatten(0, 1)
            number = is_image.flatten().to(torch.int64).cumsum(0).sub(1).clamp(min=0)
            hidden = self.merge(is_image, features[number.view(is_image.shape)], hidden)
        length = input_ids.shape[1]
        mask = torch.where(attention_mask[:, None, None] > 0, 0.0, MASKED)
        positions = torch.arange(1, length + 1, device=input_ids.device)[None]
        hidden = self.text(
            inputs_embeds=hidden,
            attention_mask=mask.expand(-1, 1, length, -1),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return {"embeddings": self.retort_head(hidden, attention_mask)}
