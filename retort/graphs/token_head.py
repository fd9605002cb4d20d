"""What PyLate runs after a backbone for each token, written for tracing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from retort.graphs.dense import Normalize


class TokenHead(nn.Module):
    """Dense layers and L2 normalisation of every token (Khattab and Zaharia 2020, ColBERT)."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers, Normalize())
        self.requires_grad_(False)

    def forward(self, outputs: Mapping[str, Tensor], attention_mask: Tensor) -> dict[str, Tensor]:
        """Return one float32 ``[batch, sequence, dim]`` as ``output`` and ``token_embeddings``.

        next-plaid asks for the one name, transformers.js for the other.
        """
        embeddings = self.layers(outputs["last_hidden_state"])
        return {"output": embeddings, "token_embeddings": embeddings}
