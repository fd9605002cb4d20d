"""How a graph's output becomes the vectors of texts."""

from __future__ import annotations

from dataclasses import dataclass

from retort.errors import InputError
from retort.runtime.graph import Graph
from retort.runtime.pooling import POOLINGS, Floats, Mask, normalized, pool
from retort.runtime.sentence_modules import SentenceModules, checked_modes

SENTENCE_OUTPUT = "sentence_embedding"
# The second name is the one that Optimum gives to exports of sentence-transformers checkpoints.
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")


@dataclass(frozen=True)
class Head:
    """What is left to do outside the graph.

    Attributes:
        output: The output to read.
        modes: The poolings to apply to it; empty: it is pooled already.
        normalize: Whether to scale the vectors to unit length.
        prompt_tokens: How many first tokens the pooling leaves out.
    """

    output: str
    modes: tuple[str, ...] = ()
    normalize: bool = False
    prompt_tokens: int = 0

    def apply(self, values: Floats, mask: Mask) -> Floats:
        """Return the vectors ``[batch, dimension]`` of the output's values.

        Args:
            values: Float32 ``[batch, sequence, dimension]``; without the middle axis if pooled.
            mask: The attention mask ``[batch, sequence]``.
        """
        if not self.modes:
            return values
        vectors = pool(values, mask, self.modes, self.prompt_tokens)
        return normalized(vectors) if self.normalize else vectors


def choose_head(
    graph: Graph, modules: SentenceModules, pooling: str | None, prompt_tokens: int
) -> Head:
    """Return the head for a call of ``encode``.

    Args:
        graph: The graph.
        modules: What follows the backbone, as the folder says.
        pooling: The pooling that the caller asks for instead; None: the folder's.
        prompt_tokens: How many first tokens the pooling must leave out.

    Raises:
        InputError: The graph does not give what the head needs, or nothing says how to pool.
    """
    if pooling is not None:
        modes = checked_modes(pooling)
        return Head(_token_output(graph), modes, prompt_tokens=prompt_tokens)
    if SENTENCE_OUTPUT in graph.outputs and prompt_tokens == 0:
        return Head(SENTENCE_OUTPUT)
    if not modules.modes:
        raise InputError(
            f"{graph.path} gives one vector per token: convert the checkpoint with --pooling, "
            f"or pass pooling=, one of {', '.join(POOLINGS)}"
        )
    if modules.others:
        raise InputError(
            f"{graph.path}: pooling outside the graph cannot apply the modules "
            f"{', '.join(modules.others)} that follow it: use a graph with a {SENTENCE_OUTPUT} "
            "output, without a prompt where include_prompt is false"
        )
    return Head(_token_output(graph), modules.modes, modules.normalize, prompt_tokens)


def _token_output(graph: Graph) -> str:
    for name in TOKEN_OUTPUTS:
        if name in graph.outputs:
            return name
    raise InputError(
        f"{graph.path} gives no vectors of tokens to pool, only {', '.join(graph.outputs)}: "
        "convert the checkpoint again"
    )
