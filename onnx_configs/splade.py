"""SPLADE: a text as weights of the vocabulary's terms, from a masked language model.

Outputs ``logits`` ``[batch, sequence, vocabulary]``, for consumers that pool by themselves;
``sparse_vector`` ``[batch, vocabulary]``; and for Anserini, which encodes one text at a time, that
vector without its zeros: ``output_idx`` int64 ``[n]`` and ``output_weights`` float32 ``[n]``.
Formal, Piwowarski and Clinchant 2021 (SPLADE), Formal et al. 2021 (SPLADE v2).
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import (
    BATCH_AXES,
    TOKEN_AXES,
    GraphRecipe,
    ModelFamily,
    Reference,
    Tensors,
)
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.card.consumers import serving_library
from retort.card.facts import MODEL, CardFacts, GraphFile
from retort.card.sparse import ANSERINI, sparse_usages
from retort.errors import InputError
from retort.fidelity import Distance, row_cosines
from retort.source.checkpoint_layout import document_modules, modules
from retort.source.sparse import (
    class_names,
    query_table,
    query_weights,
    read_pooling,
    require_one_tokenizer,
    vocabulary,
    vocabulary_file,
)

logger = logging.getLogger(__name__)

MODELS = "sentence_transformers.sparse_encoder.models"
DOCUMENT_SIDE = ("MLMTransformer", "SpladePooling")
LOGITS, VECTOR = "logits", "sparse_vector"
TERMS, WEIGHTS = "output_idx", "output_weights"
TERM_AXES = {0: "terms"}
OUTPUTS: Mapping[str, Mapping[int, str]] = {
    LOGITS: TOKEN_AXES,
    TERMS: TERM_AXES,
    WEIGHTS: TERM_AXES,
    VECTOR: BATCH_AXES,
}
POOLING_FOLDER = "1_SpladePooling"
L1_LIMIT = 1e-2  # of Anserini's guide to ONNX conversion
TERMS_TOLD = 10
WHERE_ANSERINI_LOOKS = """\
for Anserini, in the new folder:
%s
or in $ANSERINI_ENCODER_CACHE where that is set, under the names that its encoder asks for"""


class SpladeFamily(ModelFamily):
    """Checkpoints whose use is a weight for each term of the vocabulary."""

    name = "splade"
    tasks = ("fill-mask",)
    fidelity_unit = "cosine of sparse vectors"
    own_options = ("splade_outputs",)
    partial_outputs = (TERMS, WEIGHTS)

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Tell it by modules.json: documents go through a masked language model and its pooling."""
        return class_names(document_modules(checkpoint.folder))[:2] == DOCUMENT_SIDE

    def check(self, checkpoint: Checkpoint, arguments: ExportArguments) -> None:
        """Refuse outputs that are none, and modules that cannot be traced."""
        _outputs(arguments)
        parts = document_modules(checkpoint.folder)
        if parts and class_names(parts) != DOCUMENT_SIDE:
            raise InputError(
                f"{checkpoint.folder / 'modules.json'}: documents go through "
                f"{', '.join(class_names(parts))}, and a SPLADE graph through "
                f"{', '.join(DOCUMENT_SIDE)}; choose another --family"
            )
        read_pooling(checkpoint)
        if table := query_table(checkpoint):
            require_one_tokenizer(checkpoint, table)

    def recipe(self, checkpoint: Checkpoint, arguments: ExportArguments) -> GraphRecipe:
        """Return the chosen outputs, pooled as the checkpoint says."""
        from retort.graphs.sparse_head import SparseHead

        outputs = {name: OUTPUTS[name] for name in _outputs(arguments)}
        return GraphRecipe(self.tasks[0], outputs, SparseHead(*read_pooling(checkpoint)))

    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Reference:
        """Load the checkpoint with sentence-transformers' SparseEncoder."""
        from retort.references.sparse import SparseReference

        return SparseReference(checkpoint, self.maximum_length(checkpoint), _outputs(arguments))

    def fidelity(
        self, expected: Tensors, actual: Tensors, mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return each text's cosine of sparse vectors."""
        return row_cosines(expected[VECTOR], actual[VECTOR])

    def completed(self, reference: Reference, inputs: Tensors, outputs: Tensors) -> Tensors:
        """Return the outputs with the vector, of Anserini's pair or pooled from the logits."""
        from retort.references.sparse import SparseReference

        if VECTOR in outputs or not isinstance(reference, SparseReference):
            return outputs
        if LOGITS in outputs:
            return {**outputs, VECTOR: reference.pool(inputs, outputs[LOGITS])}
        vector = np.zeros((1, reference.vocabulary), np.float32)
        vector[0, outputs[TERMS]] = outputs[WEIGHTS]
        return {VECTOR: vector}

    def distance(self, expected: Tensors, actual: Tensors) -> Distance:
        """Return the mean L1 difference of the logits after ReLU, as Anserini's guide takes it."""
        name = LOGITS if LOGITS in expected else VECTOR
        difference = np.maximum(expected[name], 0) - np.maximum(actual[name], 0)
        told = f"mean L1 difference of {name} after ReLU"
        return Distance(told, float(np.abs(difference).mean()), L1_LIMIT)

    def sidecars(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Mapping[str, Any]:
        """Return Anserini's vocabulary, and what SparseEncoder or the query side lacks."""
        tokens = vocabulary(checkpoint)
        files: dict[str, Any] = {vocabulary_file(checkpoint): tokens}
        if not (checkpoint.backbone / "vocab.txt").is_file():
            files["vocab.txt"] = tokens
        if not modules(checkpoint.folder):
            files |= _sentence_transformers_files(checkpoint, self.maximum_length(checkpoint))
        if table := query_table(checkpoint):
            files["query_weights.json"] = query_weights(checkpoint, table)
        return files

    def answers(self, model: Any, text: str) -> list[str]:
        """Return how many terms have a weight, and the first of them."""
        terms = model.encode(text)
        told = [f"{term} {weight:.2f}" for term, weight in list(terms.items())[:TERMS_TOLD]]
        return [f"{len(terms)} terms: {', '.join(told)}{', …' if len(terms) > TERMS_TOLD else ''}"]

    def card(self, checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> CardFacts:
        """Return code that weighs the terms of texts, and tell where Anserini looks."""
        usages = sparse_usages(checkpoint, graphs, vocabulary_file(checkpoint))
        for usage in usages:
            if usage.consumer == ANSERINI:
                commands = usage.code.replace(f"{MODEL}/", "").strip()
                logger.info(WHERE_ANSERINI_LOOKS, textwrap.indent(commands, "  "))
        return CardFacts(
            pipeline_tag="feature-extraction",
            library_name=serving_library(graphs),
            tags=("sentence-transformers", "sparse-encoder", "sparse", "splade"),
            usages=usages,
        )


def _outputs(arguments: ExportArguments) -> tuple[str, ...]:
    chosen = tuple(arguments.splade_outputs or OUTPUTS)
    unknown = [name for name in chosen if name not in OUTPUTS]
    if unknown or len(set(chosen)) < len(chosen) or VECTOR not in chosen:
        raise InputError(
            f"--splade_outputs {','.join(chosen)}: choose from {', '.join(OUTPUTS)}, each once, "
            f"with {VECTOR}, by which the graph is checked"
        )
    return chosen


def _sentence_transformers_files(checkpoint: Checkpoint, length: int) -> dict[str, Any]:
    """Return the files of a SparseEncoder, for a masked language model that came without."""
    pooling = {"pooling_strategy": "max", "activation_function": "relu"}
    parts = zip(("", POOLING_FOLDER), DOCUMENT_SIDE, strict=True)
    return {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"{MODELS}.{kind}"}
            for index, (path, kind) in enumerate(parts)
        ],
        f"{POOLING_FOLDER}/config.json": {**pooling, "word_embedding_dimension": None},
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "model_type": "SparseEncoder",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "dot",
        },
    }


FAMILY = SpladeFamily()
