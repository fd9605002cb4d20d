"""Named-entity recognition: any ``AutoModelForTokenClassification`` checkpoint.

Output ``logits`` ``[batch, sequence, labels]``, one row of label scores for each token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import TOKEN_AXES, GraphRecipe, ModelFamily, Tensors
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.card.consumers import (
    optimum,
    quoted,
    retort_runtime,
    serving_library,
    transformers_js,
)
from retort.card.facts import MODEL, CardFacts, GraphFile
from retort.fidelity import tag_agreement
from retort.source.labels import label_files, label_settings, label_table

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
        """Refuse a checkpoint without labels."""
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
        return label_files(checkpoint, label_table(checkpoint))

    def config_updates(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return ``id2label`` and ``label2id``, which consumers read from ``config.json``."""
        return label_settings(label_table(checkpoint))

    def answers(self, model: Any, text: str) -> list[str]:
        """Return each tagged word as ``tag: "word"``."""
        return [f'{tag}: "{word}"' for word, tag in model.tags(text) if tag != "O"]

    def card(self, checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> CardFacts:
        """Return code that tags a text: the checkpoint's first sample, if it has any."""
        text = quoted(_sample_text(checkpoint))
        javascript = f"""\
import {{ pipeline }} from "@huggingface/transformers";

const tagger = await pipeline("token-classification", "{MODEL}", {{ dtype: "DTYPE" }});
console.log(await tagger({text}));
"""
        optimum_calls = (
            'tagger = pipeline("token-classification", model=model, tokenizer=tokenizer)',
            f"print(tagger({text}))",
        )
        return CardFacts(
            pipeline_tag="token-classification",
            library_name=serving_library(graphs),
            tags=("named-entity-recognition",),
            usages=(
                *transformers_js(graphs, javascript),
                optimum(
                    graphs,
                    "ORTModelForTokenClassification",
                    optimum_calls,
                    imports=", pipeline",
                ),
                retort_runtime(graphs, [f"print(model.extract({text}))"]),
            ),
        )


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


def _sample_text(checkpoint: Checkpoint) -> str:
    path = checkpoint.folder / "verify_texts.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.strip() for line in lines if line.strip()), "Marie Curie lived in Paris.")


FAMILY = TokenClassificationFamily()
