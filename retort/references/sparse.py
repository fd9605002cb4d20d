"""SPLADE in PyTorch: sentence-transformers' modules on the untouched checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import Tensors
from retort.artifact import Checkpoint
from retort.source.checkpoint_layout import modules

# Logits of all tokens over a vocabulary are gigabytes in a large batch, and several copies of them
# are made where they are compared: there, what is pooled from them is compared alone.
MOST_LOGITS = 2**24


class SparseReference:
    """A ``SparseEncoder``'s modules for documents, read before and after pooling.

    Args:
        checkpoint: The checkpoint.
        max_length: The longest text in tokens.
        outputs: Which outputs of the graph to give.
    """

    def __init__(self, checkpoint: Checkpoint, max_length: int, outputs: Sequence[str]) -> None:
        import sentence_transformers

        self.library = f"sentence-transformers {sentence_transformers.__version__}"
        self.max_length = max_length
        self._outputs = outputs
        self._transformer, self._pooling = _document_modules(checkpoint)
        self._transformer.max_seq_length = max_length
        self.vocabulary = int(self._transformer.auto_model.config.vocab_size)

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return the library's own tokens, padded on the given side."""
        self._transformer.tokenizer.padding_side = padding_side
        features = self._transformer.tokenize(list(texts))
        return {name: value.numpy() for name, value in features.items()}

    def run(self, inputs: Tensors) -> Tensors:
        """Return ``logits``, except of batches where they are too many, and ``sparse_vector``.

        The pairs of ``output_idx`` and ``output_weights`` are not among them: by rounding alone,
        a term may be there in one model and not in the other.
        """
        import torch

        features = {name: torch.from_numpy(value) for name, value in inputs.items()}
        with torch.inference_mode():
            features = self._pooling(self._transformer(features))
        logits, vectors = features["token_embeddings"], features["sentence_embedding"]
        known = {"sparse_vector": vectors.numpy()}
        if logits.numel() <= MOST_LOGITS:
            known["logits"] = logits.numpy()
        return {name: known[name] for name in self._outputs if name in known}

    def pool(self, inputs: Tensors, logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the sparse vectors, ``[batch, vocabulary]``, of ``[batch, sequence, vocabulary]``.

        Args:
            inputs: Those that gave the logits; their mask is read.
            logits: They stay as they are.
        """
        import torch

        mask = torch.from_numpy(inputs["attention_mask"])
        values = torch.from_numpy(logits.astype(np.float32))
        with torch.inference_mode():
            features = self._pooling({"token_embeddings": values, "attention_mask": mask})
        return features["sentence_embedding"].numpy()


def _document_modules(checkpoint: Checkpoint) -> tuple[Any, Any]:
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.models import Router
    from sentence_transformers.sparse_encoder.models import MLMTransformer, SpladePooling

    remote = {"trust_remote_code": checkpoint.trust_remote_code, "local_files_only": True}
    float32 = {"torch_dtype": torch.float32}
    if not modules(checkpoint.folder):
        # As SparseEncoder would, but whatever the architecture in config.json is called.
        transformer = MLMTransformer(
            str(checkpoint.backbone),
            model_args={**remote, **float32},
            tokenizer_args=dict(remote),
            config_args=dict(remote),
        )
        return transformer.eval(), SpladePooling("max").eval()
    model = SparseEncoder(
        str(checkpoint.folder), device="cpu", model_kwargs=float32, **remote
    ).eval()
    parts = model[0].sub_modules["document"] if isinstance(model[0], Router) else model
    return parts[0], parts[1]
