"""What sentence-transformers runs after a masked language model, written for tracing.

Formal, Piwowarski and Clinchant 2021 (SPLADE, sum pooling), Formal et al. 2021 (SPLADE v2, max).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def _weight(logits: Tensor) -> Tensor:
    return torch.log1p(torch.relu(logits))


def _flatter_weight(logits: Tensor) -> Tensor:
    return torch.log1p(_weight(logits))


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": _weight,
    "log1p_relu": _flatter_weight,
}


class SparseHead(nn.Module):
    """SPLADE pooling: one weight for each term of the vocabulary, most of them 0.

    Args:
        pooling: ``max`` or ``sum``, over the tokens of a text.
        activation: A key of ``ACTIVATIONS``.
    """

    def __init__(self, pooling: str, activation: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.activation = ACTIVATIONS[activation]

    def forward(self, outputs: Mapping[str, Tensor], attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the weights of a batch, and those of a single text without the zeros.

        Returns:
            ``sparse_vector`` float32 ``[batch, vocabulary]``; ``output_idx`` int64 ``[n]`` and
            ``output_weights`` float32 ``[n]``, the terms that weigh something. In those the texts
            of a batch follow each other without a mark, so they serve a batch of one.
        """
        vectors = self._pool(outputs["logits"], attention_mask)
        weights = vectors.reshape(-1)
        found = weights.nonzero().squeeze(1)
        return {
            "output_idx": found % vectors.shape[1],
            "output_weights": weights.index_select(0, found),
            "sparse_vector": vectors,
        }

    def _pool(self, logits: Tensor, attention_mask: Tensor) -> Tensor:
        masked = logits * attention_mask.unsqueeze(-1).to(logits.dtype)
        if self.pooling == "sum":
            return self.activation(masked).sum(dim=1)
        # The activations grow with the logit, so the largest one is that of the largest logit. By
        # index: ONNX Runtime's shape inference fails on ReduceMax from opset 18 on.
        largest = masked.gather(1, masked.argmax(dim=1, keepdim=True))
        return self.activation(largest.squeeze(1))
