"""ColBERT in PyTorch: PyLate, or, where it cannot be imported, transformers and a few lines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_configs.base import COUNTED_TOKENS, Tensors
from retort.artifact import Checkpoint
from retort.graphs.dense import read_weights
from retort.json_files import read_object
from retort.source.checkpoint_layout import modules
from retort.source.late_interaction import (
    is_stanford,
    lowers_texts,
    read_late_interaction,
    token_ids,
)

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


def pylate_imports() -> bool:
    """Tell whether PyLate is installed, with what it needs of other packages."""
    try:
        import pylate.models  # noqa: F401 (to see whether it can be)
    except ImportError as error:
        logger.info("PyLate cannot be imported (%s), so transformers is the reference", error)
        return False
    return True


class PyLateReference:
    """A PyLate ``ColBERT``, fed its own tokens and read after normalisation."""

    def __init__(self, checkpoint: Checkpoint, max_length: int) -> None:
        import pylate
        import torch
        from pylate import models

        self.library = f"PyLate {pylate.__version__}"
        self.max_length = max_length
        self.model: Any = models.ColBERT(
            str(checkpoint.folder),
            device="cpu",
            trust_remote_code=checkpoint.trust_remote_code,
            local_files_only=True,
            model_kwargs={"torch_dtype": torch.float32},
        ).eval()
        # Some checkpoints say more than their positions hold, and fail there.
        self.model.query_length = min(self.model.query_length, max_length)
        self.model.document_length = min(self.model.document_length, max_length)

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return PyLate's tokens: of queries where all texts are short enough, else documents."""
        self.model.tokenizer.padding_side = padding_side
        longest = max(len(ids) for ids in self.model.tokenizer(list(texts))["input_ids"])
        is_query = longest < self.model.query_length
        features = self.model.tokenize(list(texts), is_query=is_query)
        inputs = {name: value.numpy() for name, value in features.items()}
        expanded = is_query and self.model.do_query_expansion
        mask = inputs["attention_mask"]
        return {**inputs, COUNTED_TOKENS: np.ones_like(mask) if expanded else mask}

    def run(self, inputs: Tensors) -> Tensors:
        """Return ``output`` and ``token_embeddings``, one and the same."""
        import torch

        features = {
            name: torch.from_numpy(values)
            for name, values in inputs.items()
            if name != COUNTED_TOKENS
        }
        with torch.inference_mode():
            tokens = self.model.forward(features)["token_embeddings"]
            embeddings = torch.nn.functional.normalize(tokens, p=2, dim=-1).numpy()
        return {"output": embeddings, "token_embeddings": embeddings}


class PlainReference:
    """The transformers backbone, and after it the saved Dense weights, for documents alone."""

    def __init__(self, checkpoint: Checkpoint, max_length: int) -> None:
        import torch
        import transformers

        self.library = f"transformers {transformers.__version__} (PyLate cannot be imported)"
        self.max_length = max_length
        remote = {"trust_remote_code": checkpoint.trust_remote_code}
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            checkpoint.backbone, **remote
        )
        self.model: Any = transformers.AutoModel.from_pretrained(
            checkpoint.backbone, dtype=torch.float32, **remote
        ).eval()
        ids = token_ids(checkpoint, self.tokenizer, read_late_interaction(checkpoint))
        self.tokenizer.pad_token_id = ids.expansion  # as PyLate does, also for documents
        self._prefix = ids.document_prefix
        self._lowers = lowers_texts(checkpoint)
        self._layers = _projections(checkpoint)

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return the tokenizer's inputs, with the document prefix after the first token."""
        stripped = [text.strip() for text in texts]
        encoded = self.tokenizer(
            [text.lower() for text in stripped] if self._lowers else stripped,
            padding=True,
            padding_side=padding_side,
            truncation=True,
            max_length=self.max_length - (self._prefix is not None),
            return_tensors="np",
        )
        inputs = {name: np.asarray(values, np.int64) for name, values in encoded.items()}
        if self._prefix is None:
            return inputs
        inserted = {"input_ids": self._prefix, "attention_mask": 1, "token_type_ids": 0}
        return {
            name: np.insert(values, 1, inserted[name], axis=1) for name, values in inputs.items()
        }

    def run(self, inputs: Tensors) -> Tensors:
        """Return ``output`` and ``token_embeddings``, one and the same."""
        import torch

        features = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with torch.inference_mode():
            tokens = self.model(**features).last_hidden_state
            for layer in self._layers:
                tokens = layer(tokens)
            embeddings = torch.nn.functional.normalize(tokens, p=2, dim=-1).numpy()
        return {"output": embeddings, "token_embeddings": embeddings}


def _projections(checkpoint: Checkpoint) -> list[Callable[[Tensor], Tensor]]:
    """Return what follows the backbone, from the files alone: nothing of the exporter's layers."""
    if is_stanford(checkpoint):
        weights = read_weights(checkpoint, checkpoint.backbone, only=("linear.weight",))
        return [_projection(weights, {})]
    folders = [checkpoint.folder / module.path for module in modules(checkpoint.folder)[1:]]
    return [
        _projection(read_weights(checkpoint, folder), read_object(folder / "config.json"))
        for folder in folders
    ]


def _projection(
    weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    import torch

    kind = str(config.get("activation_function") or "torch.nn.Identity").rpartition(".")[2]
    known = {name: value.to(torch.float32) for name, value in weights.items()}
    activation = getattr(torch.nn, kind)()
    own = "activation_function."
    activation.load_state_dict(
        {name.removeprefix(own): value for name, value in known.items() if name.startswith(own)}
    )

    def apply(tokens: Tensor) -> Tensor:
        projected: Tensor = tokens @ known["linear.weight"].T
        if "linear.bias" in known:
            projected = projected + known["linear.bias"]
        projected = activation(projected)
        if not config.get("use_residual"):
            return projected
        matrix = known.get("residual.weight")
        return projected + (tokens if matrix is None else tokens @ matrix.T)

    return apply
