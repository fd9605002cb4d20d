"""Which output of a graph, made by any tool, is which output of the reference."""

from __future__ import annotations

from collections.abc import Mapping

# What exporters call the same thing: Optimum, sentence-transformers, pylate-onnx-export, fastembed,
# Vespa and Anserini. The number of dimensions must agree too.
_TOKENS = ("last_hidden_state", "token_embeddings", "output", "contextual", "hidden_states")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "last_hidden_state": _TOKENS,
    "token_embeddings": _TOKENS,
    "output": _TOKENS,
    "embeddings": (*_TOKENS, "image_embeddings"),
    "sentence_embedding": ("sentence_embeddings", "embeddings", "text_embeds", "pooled", "output"),
    "sparse_vector": ("sparse_embedding", "sentence_embedding", "output"),
    "logits": ("output", "scores", "prediction_logits"),
}
_LAST_RESORT = ("output_0", "output_1")


def matched_outputs(found: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, str]:
    """Return the graph's name for each of the reference's outputs that it has.

    Args:
        found: The graph's outputs and their numbers of dimensions.
        wanted: The same of the reference.
    """
    matched = {}
    for name, rank in wanted.items():
        candidates = (name, *_ALIASES.get(name, ()), *_LAST_RESORT)
        same = [other for other in candidates if found.get(other) == rank]
        if same:
            matched[name] = same[0]
    return matched
