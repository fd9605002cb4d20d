"""What a SPLADE checkpoint says of its pooling, its vocabulary, and queries without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.json_files import read_object
from retort.source.checkpoint_layout import ROUTER_FILE, Module, document_modules, router
from retort.source.lengths import UNLIMITED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POOLINGS = ("max", "sum")
ACTIVATIONS = ("relu", "log1p_relu")
TABLE = "SparseStaticEmbedding"
# Anserini feeds BERT's three inputs, tokenized as BERT's uncased models do, and no others.
ANSERINI_ARCHITECTURE = "bert"


def class_names(parts: Sequence[Module]) -> tuple[str, ...]:
    """Return the modules' classes without their packages, which change between releases."""
    return tuple(module.type.rpartition(".")[2] for module in parts)


def read_pooling(checkpoint: Checkpoint) -> tuple[str, str]:
    """Return how logits are pooled and with which activation, ``max`` and ``relu`` if not said.

    Raises:
        InputError: If the checkpoint names another one.
    """
    parts = document_modules(checkpoint.folder)
    if not parts:
        return POOLINGS[0], ACTIVATIONS[0]
    path = checkpoint.folder / parts[1].path / "config.json"
    said = read_object(path)
    pooling = said.get("pooling_strategy", POOLINGS[0])
    activation = said.get("activation_function", ACTIVATIONS[0])
    if pooling not in POOLINGS or activation not in ACTIVATIONS:
        raise InputError(
            f"{path}: {pooling!r} of {activation!r} is unknown, and {' or '.join(POOLINGS)} of "
            f"{' or '.join(ACTIVATIONS)} known; correct it there"
        )
    return pooling, activation


def query_table(checkpoint: Checkpoint) -> Module | None:
    """Return the module that looks up queries, None where they go through the graph.

    Raises:
        InputError: If queries go through something else.
    """
    routed = router(checkpoint.folder)
    queries = routed.route("query") if routed else ()
    if not queries or queries == document_modules(checkpoint.folder):
        return None
    if class_names(queries) != (TABLE,):
        raise InputError(
            f"{checkpoint.folder / ROUTER_FILE}: queries go through "
            f"{', '.join(class_names(queries))}, and only {TABLE} can stand beside the documents' "
            "graph; convert the sides as checkpoints of their own"
        )
    return queries[0]


def require_one_tokenizer(checkpoint: Checkpoint, table: Module) -> None:
    """Check that queries are tokenized as documents are, as the folder holds one tokenizer.

    Raises:
        InputError: If they are not.
    """
    ours = _tokenizer(checkpoint, checkpoint.backbone).get_vocab()
    if ours != _tokenizer(checkpoint, checkpoint.folder / table.path).get_vocab():
        raise InputError(
            f"{checkpoint.folder / table.path}: another vocabulary than the documents'; save the "
            "model with one tokenizer for both"
        )


def query_weights(checkpoint: Checkpoint, table: Module) -> dict[str, Any]:
    """Return the weights of queries' tokens, as ``retort.runtime.query_weights`` reads them.

    Raises:
        InputError: If there are none.
    """
    from retort.graphs.dense import read_weights

    folder = checkpoint.folder / table.path
    tokenizer = _tokenizer(checkpoint, folder)
    weights = dict(enumerate(read_weights(checkpoint, folder)["weight"].tolist()))
    length = tokenizer.model_max_length
    routed = router(checkpoint.folder)
    return {
        "weights": {token: weights[i] for token, i in _by_id(tokenizer) if weights.get(i)},
        "max_length": int(length) if length < UNLIMITED else None,
        "default_route": routed.default if routed else None,
    }


def vocabulary_file(checkpoint: Checkpoint) -> str:
    """Return the name of the vocabulary as Anserini calls it."""
    return f"{checkpoint.name.rpartition('/')[2]}-vocab.txt"


def vocabulary(checkpoint: Checkpoint) -> str:
    """Return the tokens in the order of their ids, one on each line."""
    tokens = {index: token for token, index in _by_id(_tokenizer(checkpoint, checkpoint.backbone))}
    names = (tokens.get(index, f"[no token {index}]") for index in range(1 + max(tokens)))
    return "".join(name.replace("\n", "\\n") + "\n" for name in names)


def _by_id(tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, int]]:
    return sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])


def _tokenizer(checkpoint: Checkpoint, folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        folder, trust_remote_code=checkpoint.trust_remote_code, local_files_only=True
    )
