"""Rerankers and text classifiers in PyTorch: sentence-transformers' CrossEncoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_configs.base import COUNTED_TOKENS, Tensors
from retort.artifact import Checkpoint
from retort.runtime.pairs import Pair

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

SEPARATOR = "\t"


class CrossEncoderReference:
    """A ``CrossEncoder``'s tokenizer and model, before the activation.

    Args:
        checkpoint: The checkpoint.
        max_length: The longest pair in tokens.
        pairs: Whether each text is cut in two, as the model reads pairs.
        first_token: Whether the model reads its scores at the first token. Padding there, which
            none of its users puts there, makes scores without a meaning: those do not count.
    """

    def __init__(
        self, checkpoint: Checkpoint, max_length: int, *, pairs: bool, first_token: bool
    ) -> None:
        import sentence_transformers

        self.library = f"sentence-transformers {sentence_transformers.__version__}"
        self.model = _cross_encoder(checkpoint)
        # Some checkpoints say more than their positions hold, and fail there.
        self.max_length = int(min(self.model.max_length, max_length))
        self._pairs = pairs
        self._first_token = first_token

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return the library's own tokens of each text, or of each cut in two."""
        encoded = self.model.tokenizer(
            [pair_of(text) for text in texts] if self._pairs else list(texts),
            padding=True,
            padding_side=padding_side,
            truncation=True,
            max_length=self.max_length,
            return_tensors="np",
        )
        inputs = {name: np.asarray(value, np.int64) for name, value in encoded.items()}
        if self._first_token:
            mask = inputs["attention_mask"]
            inputs[COUNTED_TOKENS] = mask * mask[:, :1]
        return inputs

    def run(self, inputs: Tensors) -> Tensors:
        """Return ``logits`` ``[batch, labels]``."""
        import torch

        with torch.inference_mode():
            tensors = {
                name: torch.from_numpy(value)
                for name, value in inputs.items()
                if name != COUNTED_TOKENS
            }
            return {"logits": self.model.model(**tensors).logits.numpy()}


def pair_of(text: str) -> Pair:
    """Return a text in two parts: at its first tab, else after the first word past its third."""
    if SEPARATOR in text:
        first, _, second = text.partition(SEPARATOR)
        return first, second
    at = text.find(" ", len(text) // 3) + 1 or len(text) // 3
    return text[:at].rstrip(" "), text[at:]


def _cross_encoder(checkpoint: Checkpoint) -> CrossEncoder:
    import torch
    from sentence_transformers import CrossEncoder

    return CrossEncoder(
        str(checkpoint.backbone),
        device="cpu",
        trust_remote_code=checkpoint.trust_remote_code,
        local_files_only=True,
        model_kwargs={"dtype": torch.float32},
    ).eval()
