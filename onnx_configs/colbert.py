"""ColBERT: late interaction between token embeddings, for PyLate's and Stanford's checkpoints.

Outputs ``output`` and ``token_embeddings``, the same ``[batch, sequence, dim]`` under two names:
the backbone, every Dense layer in order, and L2 normalisation. Khattab and Zaharia 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import TOKEN_AXES, GraphRecipe, ModelFamily, Reference, Tensors
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.card.facts import CardFacts, GraphFile
from retort.card.late_interaction import late_interaction_usages
from retort.errors import InputError
from retort.fidelity import row_cosines
from retort.json_files import optional_object
from retort.source.checkpoint_layout import modules
from retort.source.late_interaction import (
    PYLATE_FILE,
    LateInteraction,
    TokenIds,
    is_stanford,
    lowers_texts,
    read_late_interaction,
    token_ids,
)
from retort.source.lengths import UNLIMITED, positional_limit
from retort.talk import doing, third_party_quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

TRANSFORMER = "sentence_transformers.models.Transformer"
DENSES = ("pylate.models.Dense.Dense", "sentence_transformers.models.Dense")
MODEL_INPUTS = ("input_ids", "attention_mask")


class ColbertFamily(ModelFamily):
    """Checkpoints whose use is a vector for each token, compared by MaxSim."""

    name = "colbert"
    tasks = ("feature-extraction",)
    fidelity_unit = "cosine of token embeddings"
    layout = "both"

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Tell it by modules.json with Dense layers and no Pooling, or by Stanford's class."""
        types = [module.type for module in modules(checkpoint.folder)]
        if not types:
            return is_stanford(checkpoint)
        pooled = any(kind.endswith(".Pooling") for kind in types)
        return not pooled and any(kind.endswith(".Dense") for kind in types)

    def check(self, checkpoint: Checkpoint, arguments: ExportArguments) -> None:
        """Refuse modules that cannot be traced, and prefixes that the tokenizer lacks."""
        types = [module.type for module in modules(checkpoint.folder)]
        unknown = [kind for kind in types[:1] if kind != TRANSFORMER]
        unknown += [kind for kind in types[1:] if kind not in DENSES]
        if unknown:
            raise InputError(
                f"{checkpoint.folder / 'modules.json'}: cannot put {unknown[0]} into a ColBERT "
                "graph; what can follow a Transformer is Dense, of PyLate or sentence-transformers"
            )
        if len(types) < 2 and not is_stanford(checkpoint):
            raise InputError(
                f"{checkpoint.model_id} has no Dense layer, which PyLate would add with random "
                "weights; train it and save it with PyLate first"
            )
        settings = read_late_interaction(checkpoint)
        token_ids(checkpoint, _tokenizer(checkpoint), settings)

    def recipe(self, checkpoint: Checkpoint, arguments: ExportArguments) -> GraphRecipe:
        """Return the token embeddings under both names, token types being constant inside."""
        from retort.graphs.token_head import TokenHead

        outputs = {"output": TOKEN_AXES, "token_embeddings": TOKEN_AXES}
        head = TokenHead(_layers(checkpoint))
        return GraphRecipe(self.tasks[0], outputs, head, inputs=MODEL_INPUTS)

    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Reference:
        """Load the checkpoint with PyLate, or with transformers where that cannot be imported."""
        from retort.references.late_interaction import (
            PlainReference,
            PyLateReference,
            pylate_imports,
        )

        kind = PyLateReference if pylate_imports() else PlainReference
        return kind(checkpoint, self.maximum_length(checkpoint))

    def fidelity(
        self, expected: Tensors, actual: Tensors, mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return the cosine of every token embedding that MaxSim would use."""
        counted = mask.astype(bool)
        name = "token_embeddings"
        return row_cosines(expected[name][counted], actual[name][counted])

    def maximum_length(self, checkpoint: Checkpoint) -> int:
        """Return the longer of the query and document lengths, as far as the positions reach."""
        settings = read_late_interaction(checkpoint)
        length = max(settings.query_length, settings.document_length)
        return min(length, positional_limit(checkpoint) or length)

    def added_tokens(self, checkpoint: Checkpoint) -> Sequence[str]:
        """Return the prefixes, which PyLate makes tokens that no text is split at."""
        return read_late_interaction(checkpoint).prefixes

    def sidecars(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Mapping[str, Any]:
        """Return the settings for PyLate's readers and, as it obeys them, for next-plaid."""
        settings = read_late_interaction(checkpoint)
        tokenizer = _tokenizer(checkpoint)
        ids = token_ids(checkpoint, tokenizer, settings)
        fields = _documented_fields(checkpoint, settings, ids)
        own = optional_object(checkpoint.folder / PYLATE_FILE)
        return {
            PYLATE_FILE: {**own, **fields},
            "onnx_config.json": {**fields, **_for_next_plaid(checkpoint, settings, tokenizer)},
        }

    def answers(self, model: Any, text: str) -> list[str]:
        """Return the shapes and first numbers of the text as a query and as a document."""
        lines = []
        for kind, encode in (
            ("query", model.encode_queries),
            ("document", model.encode_documents),
        ):
            embeddings = encode(text)
            first = ", ".join(f"{value:.4f}" for value in embeddings.ravel()[:4])
            lines.append(f"{kind} {embeddings.shape[0]}×{embeddings.shape[1]}: {first}, …")
        return lines

    def card(self, checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> CardFacts:
        """Return code that encodes queries and documents, and ranks."""
        settings = read_late_interaction(checkpoint)
        ids = token_ids(checkpoint, _tokenizer(checkpoint), settings)
        return CardFacts(
            pipeline_tag="feature-extraction",
            tags=("ColBERT", "late-interaction", "multi-vector", "sentence-similarity"),
            usages=late_interaction_usages(graphs, settings, ids),
        )


def _tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    with doing(f"loading the tokenizer of {checkpoint.model_id}"), third_party_quiet():
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            checkpoint.backbone, trust_remote_code=checkpoint.trust_remote_code
        )


def _layers(checkpoint: Checkpoint) -> list[nn.Module]:
    from retort.graphs.dense import load_dense, load_linear

    if is_stanford(checkpoint):
        return [load_linear(checkpoint, checkpoint.backbone, "linear.weight")]
    folders = [checkpoint.folder / module.path for module in modules(checkpoint.folder)[1:]]
    return [load_dense(checkpoint, folder) for folder in folders]


def _documented_fields(
    checkpoint: Checkpoint, settings: LateInteraction, ids: TokenIds
) -> dict[str, Any]:
    """Return the 17 fields that pylate-onnx-export documents."""
    return {
        "model_type": "ColBERT",
        "model_name": checkpoint.name,
        "model_class": _model_class(checkpoint),
        "uses_token_type_ids": False,
        "query_prefix": settings.query_prefix,
        "document_prefix": settings.document_prefix,
        "query_length": settings.query_length,
        "document_length": settings.document_length,
        "do_query_expansion": settings.do_query_expansion,
        "attend_to_expansion_tokens": settings.attend_to_expansion_tokens,
        "skiplist_words": list(settings.skiplist_words),
        "embedding_dim": _dimension(checkpoint),
        "mask_token_id": ids.expansion,
        "pad_token_id": ids.padding,
        "query_prefix_id": ids.query_prefix,
        "document_prefix_id": ids.document_prefix,
        "do_lower_case": lowers_texts(checkpoint),
    }


def _for_next_plaid(
    checkpoint: Checkpoint, settings: LateInteraction, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Return what next-plaid has to read otherwise, to do as PyLate does."""
    longest = positional_limit(checkpoint) or UNLIMITED
    known, unknown = tokenizer.get_vocab(), tokenizer.unk_token
    # A word that the vocabulary lacks is the unknown token to PyLate, and nothing to next-plaid.
    words = [word if word in known else unknown or word for word in settings.skiplist_words]
    return {
        "query_length": min(settings.query_length, longest),
        "document_length": min(settings.document_length, longest),
        # It attends to its expansion tokens; where the model must not, it must not expand.
        "do_query_expansion": settings.do_query_expansion and settings.attend_to_expansion_tokens,
        "skiplist_words": list(dict.fromkeys(words)),
    }


def _model_class(checkpoint: Checkpoint) -> str:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    own = (checkpoint.config.get("auto_map") or {}).get("AutoModel", "")
    known = MODEL_MAPPING_NAMES.get(checkpoint.model_type, own.rpartition(".")[2])
    return str(known if isinstance(known, str) else known[0])


def _dimension(checkpoint: Checkpoint) -> int:
    if is_stanford(checkpoint):
        return int(_layers(checkpoint)[0].out_features)
    last = modules(checkpoint.folder)[-1]
    return int(optional_object(checkpoint.folder / last.path / "config.json")["out_features"])


FAMILY = ColbertFamily()
