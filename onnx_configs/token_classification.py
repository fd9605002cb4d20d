"""Named-entity recognition: any ``AutoModelForTokenClassification`` checkpoint.

Output ``logits`` ``[batch, sequence, labels]``, one row of label scores for each token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import TOKEN_AXES, GraphRecipe, ModelFamily, Tensors, json_file
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.fidelity import tag_agreement

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TokenClassificationFamily(ModelFamily):
    """Checkpoints whose use is a label for each token."""

    name = "token_classification"
    tasks = ("token-classification",)
    fidelity_unit = "share of tokens with the same tag"

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Tell it by the architecture's name in ``config.json``."""
        architectures = checkpoint.config.get("architectures") or []
        return any(name.endswith("ForTokenClassification") for name in architectures)

    def check(self, checkpoint: Checkpoint, arguments: ExportArguments) -> None:
        """Refuse a pooling, and a checkpoint without labels."""
        if arguments.pooling:
            raise InputError("--pooling is for embeddings; a token classifier has no use for it")
        label_table(checkpoint)

    def recipe(self, checkpoint: Checkpoint, arguments: ExportArguments) -> GraphRecipe:
        """Return the model's own logits; there is no head to add."""
        return GraphRecipe(self.tasks[0], {"logits": TOKEN_AXES})

    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> TaggerReference:
        """Load the checkpoint with transformers."""
        return TaggerReference(checkpoint, self.maximum_length(checkpoint))

    def fidelity(
        self, expected: Tensors, actual: Tensors, mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return each text's share of tokens that get the reference's tag."""
        return tag_agreement(expected["logits"], actual["logits"], mask)

    def sidecars(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Mapping[str, Any]:
        """Return the label tables, the source's own where it has them."""
        labels = label_table(checkpoint)
        tables: dict[str, dict[str, Any]] = {
            "id2label.json": {str(index): label for index, label in labels.items()},
            "label2id.json": {label: index for index, label in labels.items()},
        }
        return {
            name: table for name, table in tables.items() if not (checkpoint.folder / name).exists()
        }

    def config_updates(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return ``id2label`` and ``label2id``, which consumers read from ``config.json``."""
        labels = label_table(checkpoint)
        return {
            "id2label": {str(index): label for index, label in labels.items()},
            "label2id": {label: index for index, label in labels.items()},
        }

    def answers(self, model: Any, text: str) -> list[str]:
        """Return each tagged word as ``tag: "word"``."""
        return [f'{tag}: "{word}"' for word, tag in model.tags(text) if tag != "O"]


class TaggerReference:
    """The transformers model and its tokenizer."""

    def __init__(self, checkpoint: Checkpoint, max_length: int) -> None:
        import torch
        import transformers

        self.library = f"transformers {transformers.__version__}"
        remote = {"trust_remote_code": checkpoint.trust_remote_code}
        self.tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            checkpoint.backbone, **remote
        )
        self.model: PreTrainedModel = transformers.AutoModelForTokenClassification.from_pretrained(
            checkpoint.backbone, dtype=torch.float32, **remote
        ).eval()
        self.max_length = max_length

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return the tokenizer's own inputs, truncated at the model's length."""
        encoded = self.tokenizer(
            list(texts),
            padding=True,
            padding_side=padding_side,
            truncation=True,
            max_length=self.max_length,
            return_tensors="np",
        )
        return {name: np.asarray(value, np.int64) for name, value in encoded.items()}

    def run(self, inputs: Tensors) -> Tensors:
        """Return ``logits``."""
        import torch

        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
            return {"logits": self.model(**tensors).logits.numpy()}


def label_table(checkpoint: Checkpoint) -> dict[int, str]:
    """Return labels by index, from ``config.json`` or else ``id2label.json`` or ``label2id.json``.

    Raises:
        InputError: If none of them names the labels.
    """
    tables = (
        _table(checkpoint, "id2label"),
        json_file(checkpoint.folder / "id2label.json"),
        _inverted(json_file(checkpoint.folder / "label2id.json")),
        _inverted(_table(checkpoint, "label2id")),
    )
    # transformers writes LABEL_0, LABEL_1, … where nobody named them.
    named = (t for t in tables if not all(str(x).startswith("LABEL_") for x in t.values()))
    labels = next(named, tables[0])
    if not labels or {str(index) for index in labels} != {str(i) for i in range(len(labels))}:
        raise InputError(
            f"{checkpoint.backbone / 'config.json'}: no id2label that names the labels 0, 1, 2, …; "
            "add it there"
        )
    return {int(index): str(label) for index, label in sorted(labels.items(), key=_index)}


def _table(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    table = checkpoint.config.get(key) or {}
    if not isinstance(table, dict):
        raise InputError(f"{checkpoint.backbone / 'config.json'}: {key} is no table; correct it")
    return table


def _inverted(table: Mapping[str, Any]) -> dict[Any, str]:
    return {index: label for label, index in table.items()}


def _index(item: tuple[Any, Any]) -> int:
    return int(item[0])


FAMILY = TokenClassificationFamily()
