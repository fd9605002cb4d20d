"""How long the texts are that a checkpoint takes: what its files say, and its positions allow."""

from __future__ import annotations

from pathlib import Path

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.json_files import optional_object
from retort.runtime.sentence_modules import TRANSFORMER_CONFIGS

UNLIMITED = 1_000_000  # transformers writes 1e30 where a tokenizer knows no limit
DEFAULT_MAXIMUM_LENGTH = 512
# These architectures number positions from pad_token_id + 1, which costs them as many tokens.
OFFSET_POSITIONS = frozenset(
    {
        "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta",
        "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip


def maximum_length(checkpoint: Checkpoint) -> int:
    """Return the longest input in tokens: sentence-transformers' length, else the tokenizer's.

    Raises:
        InputError: If a file says something else than a number.
    """
    paths = (checkpoint.backbone / name for name in TRANSFORMER_CONFIGS)
    said = _length(next(filter(Path.is_file, paths), None), "max_seq_length")
    said = said or _length(checkpoint.backbone / "tokenizer_config.json", "model_max_length")
    limits = [positional_limit(checkpoint), said]
    return min((limit for limit in limits if limit), default=DEFAULT_MAXIMUM_LENGTH)


def positional_limit(checkpoint: Checkpoint) -> int | None:
    """Return how many tokens the position embeddings allow, or None if unlimited."""
    limit = checkpoint.config.get("max_position_embeddings")
    if not isinstance(limit, int) or limit <= 0:
        return None
    if checkpoint.model_type in OFFSET_POSITIONS:
        padding = checkpoint.config.get("pad_token_id")
        limit -= (padding if isinstance(padding, int) else 1) + 1
    return limit


def _length(path: Path | None, key: str) -> int | None:
    """Return the number of tokens in a JSON file, None where it says none or no limit."""
    said = optional_object(path).get(key) if path else None
    if not isinstance(said, int | float | None):
        raise InputError(f"{path}: {key} is {said!r}, not a number; correct it")
    return int(said) if said and said < UNLIMITED else None
