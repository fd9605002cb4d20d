"""ColQwen2, written so that one trace is right for every image grid, padding and mixture of rows.

The stock forward loops over images in Python, which a trace turns into constants. Here positions
come from arithmetic on ``image_grid_thw``, and images stay in their padded layout. Architecture:
Wang et al. 2024 (Qwen2-VL), Faysse et al. 2024 (ColPali).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retort.graphs.visual_layers import MASKED, MergeImages, TokenVectors, attend, rotary, rotate


class VisionTower(nn.Module):
    """The vision transformer over padded patches."""

    frequencies: Tensor

    def __init__(self, visual: Any) -> None:
        super().__init__()
        # A convolution whose stride is its kernel is a linear layer over flattened patches.
        kernel = visual.patch_embed.proj.weight.detach()
        self.patches = nn.Linear(kernel[0].numel(), kernel.shape[0], bias=False)
        self.patches.weight = nn.Parameter(kernel.flatten(1), requires_grad=False)
        self.blocks, self.merger = visual.blocks, visual.merger
        self.side = int(visual.spatial_merge_size)
        self.register_buffer("frequencies", visual.rotary_pos_emb.inv_freq.clone())

    def forward(self, pixel_values: Tensor, grid: Tensor) -> Tensor:
        """Return merged features, float32 ``[batch, patches / side², width]``.

        Args:
            pixel_values: Float32 ``[batch, patches, pixels]``, each image padded at its end.
            grid: Int64 ``[batch, 3]``: time, height and width of each image in patches.
        """
        # One window more, of padding, so that a batch without patches has no empty dimension.
        batch, pixels = pixel_values.shape[0], pixel_values.shape[2]
        window = pixel_values.new_zeros((batch, self.side**2, pixels))
        pixel_values = torch.cat((pixel_values, window), dim=1)
        height, width = grid[:, 1:2], grid[:, 2:3]
        index = torch.arange(pixel_values.shape[1], device=grid.device)[None]
        mask = torch.where(index < height * width, 0.0, MASKED)[:, None, None]
        positions = rotary(self._angles(index, width))
        hidden = self.patches(pixel_values)
        for block in self.blocks:
            hidden = hidden + self._attention(block.attn, block.norm1(hidden), positions, mask)
            hidden = hidden + block.mlp(block.norm2(hidden))
        normed = self.merger.ln_q(hidden)
        windows = normed.reshape(normed.shape[0], -1, normed.shape[-1] * self.side**2)
        features: Tensor = self.merger.mlp(windows)
        return features

    def _angles(self, index: Tensor, width: Tensor) -> Tensor:
        # Patches come window by window, squares of neighbours, which are merged in the end.
        window, inside = index // self.side**2, index % self.side**2
        columns = (width // self.side).clamp(min=1)
        row = (window // columns) * self.side + inside // self.side
        column = (window % columns) * self.side + inside % self.side
        return torch.cat(
            [place[..., None].to(torch.float32) * self.frequencies for place in (row, column)],
            dim=-1,
        )

    def _attention(
        self, layer: Any, hidden: Tensor, positions: tuple[Tensor, Tensor], mask: Tensor
    ) -> Tensor:
        parts = layer.qkv(hidden).unflatten(-1, (3, layer.num_heads, layer.head_dim))
        query, key, value = (parts[:, :, number].transpose(1, 2) for number in range(3))
        query, key = rotate(query, *positions), rotate(key, *positions)
        mixed: Tensor = layer.proj(attend(query, key, value, mask, layer.scaling))
        return mixed


class TextTower(nn.Module):
    """The language model, whose rotary positions have three axes: time, height and width."""

    frequencies: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.layers, self.norm = model.layers, model.norm
        self.sections = [int(width) for width in model.config.rope_scaling["mrope_section"]]
        self.register_buffer("frequencies", model.rotary_emb.inv_freq.clone())

    def forward(self, hidden: Tensor, positions: Tensor, attention_mask: Tensor) -> Tensor:
        """Return float32 ``[batch, sequence, width]``.

        Args:
            hidden: Embeddings of words and images, ``[batch, sequence, width]``.
            positions: Int64 ``[3, batch, sequence]``.
            attention_mask: Int64 ``[batch, sequence]``.
        """
        index = torch.arange(hidden.shape[1], device=hidden.device)
        seen = (index[None] <= index[:, None])[None] & (attention_mask[:, None] > 0)
        mask = torch.where(seen, 0.0, MASKED)[:, None]
        # Each section of the frequencies follows one of the three axes.
        angles = [
            positions[axis][..., None].to(torch.float32) * part
            for axis, part in enumerate(self.frequencies.split(self.sections))
        ]
        turns = rotary(torch.cat(angles, dim=-1))
        for layer in self.layers:
            normed = layer.input_layernorm(hidden)
            hidden = hidden + self._attention(layer.self_attn, normed, turns, mask)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        last: Tensor = self.norm(hidden)
        return last

    def _attention(
        self, layer: Any, hidden: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor
    ) -> Tensor:
        def heads(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (-1, layer.head_dim)).transpose(1, 2)

        query, key = heads(layer.q_proj(hidden)), heads(layer.k_proj(hidden))
        query, key = rotate(query, *turns), rotate(key, *turns)
        groups = layer.num_key_value_groups
        key, value = (
            shared[:, :, None].expand(-1, -1, groups, -1, -1).flatten(1, 2)
            for shared in (key, heads(layer.v_proj(hidden)))
        )
        mixed: Tensor = layer.o_proj(attend(query, key, value, mask, layer.scaling))
        return mixed


class ColQwen2Graph(nn.Module):
    """``embeddings`` of text, of images, or of rows of both."""

    def __init__(self, model: Any, *, images: bool) -> None:
        super().__init__()
        vlm = model.vlm.model
        self.words = vlm.language_model.embed_tokens
        self.text = TextTower(vlm.language_model)
        self.vision = VisionTower(vlm.visual) if images else None
        self.merge = MergeImages()
        # In float16 files what has this name stays in fp32.
        self.retort_head = TokenVectors(model.embedding_proj_layer)
        self.image_token = int(model.config.vlm_config.image_token_id)
        self.side = int(vlm.visual.spatial_merge_size)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return ``embeddings`` ``[batch, sequence, dim]``; a row of text has the grid 0, 0, 0."""
        hidden = self.words(input_ids)
        if self.vision is None or pixel_values is None or image_grid_thw is None:
            index = (attention_mask.cumsum(1) - 1).clamp(min=0)
            positions = torch.stack([index, index, index])
        else:
            # A text may hold the image token too; in a row without a grid it is a word.
            has_image = (attention_mask > 0) & (image_grid_thw[:, :1] > 0)
            is_image = (input_ids == self.image_token) & has_image
            number = is_image.to(torch.int64).cumsum(1) - 1
            features = self.vision(pixel_values, image_grid_thw)
            place = number.clamp(min=0)[..., None].expand(-1, -1, features.shape[-1])
            hidden = self.merge(is_image, torch.gather(features, 1, place), hidden)
            positions = self._positions(attention_mask, is_image, number, image_grid_thw)
        hidden = self.text(hidden, positions, attention_mask)
        return {"embeddings": self.retort_head(hidden, attention_mask)}

    def _positions(
        self, attention_mask: Tensor, is_image: Tensor, number: Tensor, grid: Tensor
    ) -> Tensor:
        """Return ``[3, batch, sequence]``: an image's tokens spread over a grid, text goes on."""
        rows, columns = grid[:, 1:2] // self.side, grid[:, 2:3] // self.side
        is_text = (attention_mask > 0) & ~is_image
        texts = is_text.to(torch.int64).cumsum(1)
        extent = torch.maximum(torch.maximum(rows, columns), grid[:, :1])
        of_text = texts - 1 + torch.where(number >= 0, extent, 0)
        across = columns.clamp(min=1)
        inside = torch.stack([torch.zeros_like(number), number // across, number % across])
        return torch.where(is_image[None], texts[None] + inside, of_text[None]).clamp(min=0)
