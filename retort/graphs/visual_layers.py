"""What the graphs of visual document retrieval share: attention, merging of images, the output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKED = -1e4  # far below any score, and within the range of float16


class MergeImages(nn.Module):
    """Puts image features in the place of image tokens; a module, so that its node has a name."""

    def forward(self, is_image: Tensor, features: Tensor, words: Tensor) -> Tensor:
        """Return float32 ``[batch, sequence, width]``: features where ``is_image``, else words."""
        return torch.where(is_image[..., None], features, words)


class TokenVectors(nn.Module):
    """The last projection, L2 normalisation, and zeros for padding."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return float32 ``[batch, sequence, dim]``."""
        vectors: Tensor = self.projection(hidden)
        lengths = torch.sqrt((vectors * vectors).sum(-1, keepdim=True)).clamp(min=1e-12)
        return vectors / lengths * attention_mask[..., None].to(vectors.dtype)


def rotate(values: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Apply rotary positions (Su et al. 2021) to ``[..., sequence, dim]``."""
    first, second = values.chunk(2, dim=-1)
    return values * cosines + torch.cat((-second, first), dim=-1) * sines


def rotary(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines ``[batch, 1, sequence, dim]`` of ``[batch, sequence, dim / 2]``."""
    both = torch.cat((angles, angles), dim=-1)[:, None]
    return both.cos(), both.sin()


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Return attention's ``[batch, sequence, heads · dim]``.

    Args:
        query: ``[batch, heads, sequence, dim]``; key and value alike.
        key: What is compared with the query.
        value: What is mixed.
        mask: Added to the scores: 0 where attention is allowed, else ``MASKED``.
        scale: What the products are multiplied by.
    """
    scores = (query * scale) @ key.transpose(-1, -2) + mask
    return (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2)
