"""Rerankers, and classifiers of texts or pairs: ``AutoModelForSequenceClassification``.

Output ``logits`` ``[batch, labels]``, before sentence-transformers' activation. Nogueira and Cho
2019 (passage re-ranking with BERT).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import BATCH_AXES, GraphRecipe, ModelFamily, Reference, Tensors
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.card.classification import classifier_facts
from retort.card.facts import CardFacts, GraphFile
from retort.errors import InputError
from retort.runtime.activations import (
    NEW_KEY,
    NEW_SETTINGS,
    declared_activation,
    sigmoid,
    softmax,
)
from retort.runtime.labels import UNNAMED_LABELS
from retort.runtime.pairs import reads_pairs
from retort.source.labels import UNNAMED, label_files, label_settings, label_table
from retort.talk import doing, third_party_quiet

logger = logging.getLogger(__name__)

LOGITS = "logits"


class CrossEncoderFamily(ModelFamily):
    """Checkpoints whose use is a score or a label for a text or a pair of texts."""

    name = "cross_encoder"
    tasks = ("text-classification",)
    fidelity_unit = "overlap of label probabilities"

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Tell it by the architecture's name in ``config.json``."""
        architectures = checkpoint.config.get("architectures") or []
        return any(name.endswith("ForSequenceClassification") for name in architectures)

    def check(self, checkpoint: Checkpoint, arguments: ExportArguments) -> None:
        """Refuse damaged labels, and models that give no scores for batches."""
        labels(checkpoint)
        _refuse_encoder_decoder(checkpoint)
        if _is_decoder(checkpoint):
            _check_padding(checkpoint)

    def recipe(self, checkpoint: Checkpoint, arguments: ExportArguments) -> GraphRecipe:
        """Return the model's own logits; there is no head to add."""
        return GraphRecipe(self.tasks[0], {LOGITS: BATCH_AXES})

    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Reference:
        """Load the checkpoint with sentence-transformers' CrossEncoder."""
        from retort.references.cross_encoder import CrossEncoderReference

        return CrossEncoderReference(
            checkpoint,
            self.maximum_length(checkpoint),
            pairs=reads_pairs(checkpoint.config, list(labels(checkpoint).values())),
            first_token=not _is_decoder(checkpoint),
        )

    def fidelity(
        self, expected: Tensors, actual: Tensors, mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return what each text's two distributions over the labels share, 1 if they are one.

        Of a single label it is that of yes and no, by the sigmoid of its logit. Texts of which no
        token counts are left out.
        """
        counted = mask.any(axis=-1)
        wanted, got = (_probabilities(outputs[LOGITS][counted]) for outputs in (expected, actual))
        return np.minimum(wanted, got).sum(axis=-1, dtype=np.float64)

    def sidecars(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Mapping[str, Any]:
        """Return the label tables, the source's own where it has them."""
        return label_files(checkpoint, labels(checkpoint))

    def config_updates(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return the labels, and an activation where CrossEncoder reads it since version 4."""
        updates: dict[str, Any] = label_settings(labels(checkpoint))
        if declared := declared_activation(checkpoint.config):
            settings = checkpoint.config.get(NEW_SETTINGS) or {}
            updates[NEW_SETTINGS] = {**settings, NEW_KEY: declared}
        return updates

    def answers(self, model: Any, text: str) -> list[str]:
        """Return the score of the text cut in two, or its labels with their scores."""
        from retort.references.cross_encoder import SEPARATOR, pair_of

        row = pair_of(text) if model.reads_pairs or SEPARATOR in text else text
        if len(model.labels) == 1 and isinstance(row, tuple):
            return [f"score: {model.predict(row):.4f}"]
        return [f"{found.label}: {found.score:.4f}" for found in model.classify(row)]

    def card(self, checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> CardFacts:
        """Return code that ranks documents, or labels texts or pairs."""
        return classifier_facts(checkpoint, labels(checkpoint), graphs)


def labels(checkpoint: Checkpoint) -> dict[int, str]:
    """Return labels by index, as transformers numbers them where nothing names any.

    Raises:
        InputError: If they are not those of the indices 0, 1, 2, …
    """
    count = checkpoint.config.get("num_labels")
    count = UNNAMED_LABELS if count is None else count
    if not isinstance(count, int) or count < 1:
        path = checkpoint.backbone / "config.json"
        raise InputError(f"{path}: num_labels is {count!r}, not a number; correct it there")
    return label_table(checkpoint, {index: f"{UNNAMED}{index}" for index in range(count)})


def _probabilities(logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if logits.shape[-1] > 1:
        return softmax(logits)
    return np.concatenate([sigmoid(logits), sigmoid(-logits)], axis=-1)


def _is_decoder(checkpoint: Checkpoint) -> bool:
    """Tell whether the score is read at the last token that is not padding."""
    from transformers.models.auto import modeling_auto as tables

    kind = checkpoint.model_type
    both_sides = kind in tables.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return kind in tables.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not both_sides


def _refuse_encoder_decoder(checkpoint: Checkpoint) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as ENCODER_DECODERS,
    )

    if checkpoint.model_type in ENCODER_DECODERS:
        raise InputError(
            f"{checkpoint.model_id}: {checkpoint.model_type} has an encoder and a decoder, and no "
            "family of Retort takes it; choose a checkpoint with one of them, such as DeBERTa"
        )


def _check_padding(checkpoint: Checkpoint) -> None:
    """Refuse a decoder without a padding token, which gives no scores for batches."""
    with doing(f"loading the tokenizer of {checkpoint.model_id}"), third_party_quiet():
        from transformers import AutoConfig, AutoTokenizer

        remote = {"trust_remote_code": checkpoint.trust_remote_code}
        own = AutoConfig.from_pretrained(checkpoint.backbone, **remote).pad_token_id
        padding = AutoTokenizer.from_pretrained(checkpoint.backbone, **remote).pad_token_id
    if own is None or padding is None:
        missing = "pad_token_id in config.json" if own is None else "pad_token in its tokenizer"
        raise InputError(
            f"{checkpoint.backbone}: {checkpoint.model_type} reads its score at the last token "
            f"that is not padding, and there is no {missing}; add it there"
        )
    if own != padding:
        logger.warning(
            "%s: pad_token_id is %s in config.json and %s in the tokenizer: padded on the right, a "
            "text in a batch has another score than alone, in PyTorch as well",
            checkpoint.backbone,
            own,
            padding,
        )


FAMILY = CrossEncoderFamily()
