"""How a ColBERT checkpoint wants queries and documents to be written, as PyLate reads it.

PyLate keeps it in ``config_sentence_transformers.json``; Stanford's code in ``artifact.metadata``.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.artifact import Checkpoint
from retort.errors import InputError
from retort.json_files import optional_object, read_object
from retort.source.checkpoint_layout import modules

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PYLATE_FILE = "config_sentence_transformers.json"
STANFORD_FILE = "artifact.metadata"
STANFORD_ARCHITECTURE = "HF_ColBERT"
# Stanford's names for what PyLate calls otherwise.
_STANFORD_KEYS = {
    "query_prefix": "query_token_id",
    "document_prefix": "doc_token_id",
    "query_length": "query_maxlen",
    "document_length": "doc_maxlen",
    "attend_to_expansion_tokens": "attend_to_mask_tokens",
}
_PYLATE_DEFAULTS: Mapping[str, Any] = {"query_prefix": "[Q] ", "document_prefix": "[D] "}
_STANFORD_DEFAULTS: Mapping[str, Any] = {
    "query_prefix": "[unused0]",
    "document_prefix": "[unused1]",
}
_DEFAULTS: Mapping[str, Any] = {
    "query_length": 32,
    "document_length": 180,
    "do_query_expansion": True,
    "attend_to_expansion_tokens": False,
    "skiplist_words": list(string.punctuation),
}


@dataclass(frozen=True)
class LateInteraction:
    """What becomes of a text before a ColBERT model sees it.

    Attributes:
        query_prefix: The token after the first one of a query; empty for none.
        document_prefix: The same for documents.
        query_length: Tokens of a query: longer ones are cut, shorter ones expanded.
        document_length: The longest document in tokens.
        do_query_expansion: Whether queries are filled up with mask tokens.
        attend_to_expansion_tokens: Whether other tokens attend to those.
        skiplist_words: Tokens whose embeddings are left out of documents.
    """

    query_prefix: str
    document_prefix: str
    query_length: int
    document_length: int
    do_query_expansion: bool
    attend_to_expansion_tokens: bool
    skiplist_words: tuple[str, ...]

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes that are not empty."""
        return tuple(filter(None, (self.query_prefix, self.document_prefix)))


@dataclass(frozen=True)
class TokenIds:
    """The ids of the tokens that PyLate puts in by itself.

    Attributes:
        expansion: What queries are expanded with: the mask token, else the end, else padding.
        padding: The tokenizer's own padding token; the expansion's where it has none.
        query_prefix: None where there is no prefix.
        document_prefix: None where there is no prefix.
    """

    expansion: int
    padding: int
    query_prefix: int | None
    document_prefix: int | None


def is_stanford(checkpoint: Checkpoint) -> bool:
    """Tell whether Stanford's ColBERT saved the checkpoint, all weights in one file."""
    architectures = checkpoint.config.get("architectures") or []
    return architectures[:1] == [STANFORD_ARCHITECTURE] and not modules(checkpoint.folder)


def lowers_texts(checkpoint: Checkpoint) -> bool:
    """Tell whether sentence-transformers lowers texts before they are tokenized."""
    paths = checkpoint.backbone.glob("sentence_*_config.json")
    return any(read_object(path).get("do_lower_case") for path in paths)


def read_late_interaction(checkpoint: Checkpoint) -> LateInteraction:
    """Return the settings of a checkpoint, with PyLate's defaults for what it does not say.

    Raises:
        InputError: If a value is of the wrong type.
    """
    if is_stanford(checkpoint):
        path = checkpoint.folder / STANFORD_FILE
        told = optional_object(path)
        said = {key: told.get(name) for key, name in _STANFORD_KEYS.items()}
        defaults = {**_DEFAULTS, **_STANFORD_DEFAULTS}
    else:
        path = checkpoint.folder / PYLATE_FILE
        said = optional_object(path)
        defaults = {**_DEFAULTS, **_PYLATE_DEFAULTS}
    values: dict[str, Any] = {
        key: default if said.get(key) is None else said[key] for key, default in defaults.items()
    }
    for key, default in defaults.items():
        _check_type(path, key, values[key], type(default))
    if not values["do_query_expansion"]:
        values["attend_to_expansion_tokens"] = False
    values["skiplist_words"] = tuple(values["skiplist_words"])
    return LateInteraction(**values)


def _check_type(path: Path, key: str, value: object, kind: type) -> None:
    # bool is an int to Python, and a length to nobody.
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if fits and isinstance(value, list):
        fits = all(isinstance(word, str) for word in value)
    if fits and kind is int:
        fits = isinstance(value, int) and value > 1
    if not fits:
        raise InputError(f"{path}: {key} is {value!r}, which PyLate cannot use; correct it there")


def token_ids(
    checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, settings: LateInteraction
) -> TokenIds:
    """Return the ids of the special tokens.

    Raises:
        InputError: If a prefix is no token of the model's, or there is nothing to expand with.
    """
    known = tokenizer.get_vocab()
    rows = checkpoint.config.get("vocab_size") or math.inf
    lacking = [prefix for prefix in settings.prefixes if known.get(prefix, math.inf) >= rows]
    if lacking:
        raise InputError(
            f"{checkpoint.backbone}: no token {lacking[0]!r} with a trained vector, and PyLate "
            "would draw a random one; save the trained model with PyLate, or correct the prefixes "
            f"in {PYLATE_FILE}"
        )
    candidates = (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    expansion = next((index for index in candidates if index is not None), None)
    if expansion is None:
        raise InputError(
            f"{checkpoint.backbone}: the tokenizer has neither a mask, an end nor a padding token "
            "to expand queries with; add one to it"
        )
    padding = tokenizer.pad_token_id
    return TokenIds(
        expansion=expansion,
        padding=expansion if padding is None else padding,
        query_prefix=known[settings.query_prefix] if settings.query_prefix else None,
        document_prefix=known[settings.document_prefix] if settings.document_prefix else None,
    )
