"""Sentence embeddings: encoders and decoders, with the pooling that sentence-transformers does.

Outputs ``last_hidden_state`` ``[batch, sequence, dim]`` and, where the checkpoint or the user
names a pooling, ``sentence_embedding`` ``[batch, dim]``, exactly what
``SentenceTransformer.encode`` returns for the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import BATCH_AXES, TOKEN_AXES, GraphRecipe, ModelFamily, Reference, Tensors
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.card.consumers import serving_library
from retort.card.facts import CardFacts, GraphFile
from retort.card.sentences import pooled_usages, token_usages
from retort.errors import InputError
from retort.fidelity import row_cosines, token_cosines
from retort.graphs.sentence_head import HEAD_MODULES, SentenceHead, load_sentence_head
from retort.runtime.sentence_modules import POOLING_KEYS
from retort.source.checkpoint_layout import modules
from retort.source.lengths import positional_limit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TRANSFORMER = "sentence_transformers.models.Transformer"
BACKBONE_ENDINGS = ("Model", "ForMaskedLM", "ForPreTraining")


class EmbeddingFamily(ModelFamily):
    """Checkpoints whose use is a vector for a text."""

    name = "embedding"
    tasks = ("feature-extraction",)
    fidelity_unit = "cosine of embeddings"
    own_options = ("pooling",)

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Tell it by modules.json ending in a pooled vector, or by a backbone without a head."""
        types = [module.type for module in modules(checkpoint.folder)]
        if types:
            return types[0] == TRANSFORMER and any(t.endswith(".Pooling") for t in types)
        architectures = checkpoint.config.get("architectures") or []
        return any(name.endswith(BACKBONE_ENDINGS) for name in architectures)

    def check(self, checkpoint: Checkpoint, arguments: ExportArguments) -> None:
        """Refuse a second pooling, and modules that cannot be traced."""
        types = [module.type for module in modules(checkpoint.folder)]
        if types and arguments.pooling:
            raise InputError(
                f"{checkpoint.model_id} brings its own pooling in modules.json; drop --pooling"
            )
        if "vision_config" in checkpoint.config:
            raise InputError(
                f"{checkpoint.model_id} ({checkpoint.model_type}) is more than a text encoder; "
                "no family of Retort takes it"
            )
        unknown = [kind for kind in types[:1] if kind != TRANSFORMER]
        unknown += [kind for kind in types[1:] if kind not in HEAD_MODULES]
        if unknown:
            known = ", ".join(kind.rsplit(".", 1)[1] for kind in HEAD_MODULES)
            raise InputError(
                f"{checkpoint.folder / 'modules.json'}: cannot put {unknown[0]} into a graph; "
                f"what can follow a Transformer is {known}"
            )

    def recipe(self, checkpoint: Checkpoint, arguments: ExportArguments) -> GraphRecipe:
        """Return the backbone's output and the checkpoint's own head after it."""
        head = self._head(checkpoint, arguments)
        outputs: dict[str, Mapping[int, str]] = {"last_hidden_state": TOKEN_AXES}
        if head is not None:
            outputs["sentence_embedding"] = BATCH_AXES
        return GraphRecipe(self.tasks[0], outputs, head)

    def _head(self, checkpoint: Checkpoint, arguments: ExportArguments) -> SentenceHead | None:
        parts = modules(checkpoint.folder)
        if not parts:
            return SentenceHead((arguments.pooling,)) if arguments.pooling else None
        return load_sentence_head(checkpoint, parts[1:])

    def reference(self, checkpoint: Checkpoint, arguments: ExportArguments) -> SentenceReference:
        """Load the checkpoint with sentence-transformers."""
        length = self.maximum_length(checkpoint)
        return SentenceReference(_sentence_transformer(checkpoint, arguments), length)

    def fidelity(
        self, expected: Tensors, actual: Tensors, mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return each text's cosine: of its sentence embedding, else the mean over its tokens."""
        if "sentence_embedding" in expected:
            return row_cosines(expected["sentence_embedding"], actual["sentence_embedding"])
        return token_cosines(expected["last_hidden_state"], actual["last_hidden_state"], mask)

    def completed(self, reference: Reference, inputs: Tensors, outputs: Tensors) -> Tensors:
        """Return the outputs with the library's pooling, where the graph leaves that out."""
        if "sentence_embedding" in outputs or not isinstance(reference, SentenceReference):
            return outputs
        return {**outputs, **reference.pool(inputs, outputs["last_hidden_state"])}

    def sidecars(self, checkpoint: Checkpoint, arguments: ExportArguments) -> Mapping[str, Any]:
        """Return sentence-transformers' files for a pooling that only --pooling names."""
        if modules(checkpoint.folder) or not arguments.pooling:
            return {}
        width = checkpoint.config.get("hidden_size") or checkpoint.config.get("dim")
        modes = {key: mode == arguments.pooling for mode, key in POOLING_KEYS.items()}
        return {
            "modules.json": [
                {"idx": 0, "name": "0", "path": "", "type": TRANSFORMER},
                {
                    "idx": 1,
                    "name": "1",
                    "path": "1_Pooling",
                    "type": "sentence_transformers.models.Pooling",
                },
            ],
            "1_Pooling/config.json": {"word_embedding_dimension": width, **modes},
            "sentence_bert_config.json": {
                "max_seq_length": self.maximum_length(checkpoint),
                "do_lower_case": False,
            },
        }

    def answers(self, model: Any, text: str) -> list[str]:
        """Return the vector's length and its first numbers."""
        vector = model.encode(text)
        first = ", ".join(f"{value:.4f}" for value in vector[:4])
        return [f"{vector.shape[-1]} dimensions: {first}, …"]

    def card(self, checkpoint: Checkpoint, graphs: Sequence[GraphFile]) -> CardFacts:
        """Return code that makes vectors: of texts where the graphs pool, else of tokens."""
        pooled = all("sentence_embedding" in graph.outputs for graph in graphs)
        return CardFacts(
            pipeline_tag="feature-extraction",
            library_name=serving_library(graphs),
            tags=("sentence-transformers", "sentence-similarity") if pooled else (),
            usages=pooled_usages(checkpoint, graphs) if pooled else token_usages(graphs),
        )


class SentenceReference:
    """A ``SentenceTransformer``, fed tokens and read before and after pooling."""

    def __init__(self, model: SentenceTransformer, max_length: int) -> None:
        import sentence_transformers

        self.model = model
        # Some checkpoints say more than their positions hold, and fail there.
        model.max_seq_length = min(model.max_seq_length or max_length, max_length)
        self.library = f"sentence-transformers {sentence_transformers.__version__}"
        self.max_length = int(model.max_seq_length)

    def tokenize(self, texts: Sequence[str], padding_side: str) -> Tensors:
        """Return the library's own tokens, padded on the given side."""
        self.model.tokenizer.padding_side = padding_side
        features = self.model.tokenize(list(texts))
        return {name: value.numpy() for name, value in features.items() if hasattr(value, "numpy")}

    def run(self, inputs: Tensors) -> Tensors:
        """Return ``last_hidden_state``, and ``sentence_embedding`` where there is a pooling."""
        import torch

        with torch.inference_mode():
            features = {name: torch.from_numpy(value) for name, value in inputs.items()}
            # Max pooling overwrites padding rows in place, hence a copy before the head runs.
            features = self.model[0](features)
            outputs = {"last_hidden_state": features["token_embeddings"].clone().numpy()}
            return {**outputs, **self._pooled(features)}

    def pool(self, inputs: Tensors, tokens: npt.NDArray[Any]) -> Tensors:
        """Return ``sentence_embedding`` of ``[batch, sequence, dim]``, if there is a pooling."""
        import torch

        features = {name: torch.from_numpy(value) for name, value in inputs.items()}
        with torch.inference_mode():
            embeddings = torch.from_numpy(tokens.astype(np.float32))
            return self._pooled({**features, "token_embeddings": embeddings})

    def _pooled(self, features: dict[str, Any]) -> Tensors:
        for module in list(self.model)[1:]:
            features = module(features)
        pooled = features.get("sentence_embedding")
        return {} if pooled is None else {"sentence_embedding": pooled.numpy()}


def _sentence_transformer(
    checkpoint: Checkpoint, arguments: ExportArguments
) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer, models

    settings = {
        "device": "cpu",
        "trust_remote_code": checkpoint.trust_remote_code,
        "local_files_only": True,
    }
    if modules(checkpoint.folder):
        return SentenceTransformer(
            str(checkpoint.folder), model_kwargs={"torch_dtype": torch.float32}, **settings
        ).eval()
    remote = {"trust_remote_code": checkpoint.trust_remote_code}
    backbone = models.Transformer(
        str(checkpoint.backbone),
        max_seq_length=positional_limit(checkpoint),
        model_args={"torch_dtype": torch.float32, **remote},
        tokenizer_args=remote,
        config_args=remote,
    )
    parts: list[Any] = [backbone]
    if arguments.pooling:
        width = backbone.get_word_embedding_dimension()
        parts.append(models.Pooling(width, pooling_mode=arguments.pooling))
    return SentenceTransformer(modules=parts, device="cpu").eval()


FAMILY = EmbeddingFamily()
