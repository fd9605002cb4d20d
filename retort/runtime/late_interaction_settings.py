"""What a ColBERT folder says of its queries and documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retort.errors import InputError
from retort.runtime.folder import Folder

OWN_FILE = "config_sentence_transformers.json"
# next-plaid's, and all that pylate-onnx-export wrote; its query expansion may be off against the
# checkpoint's will.
NEXT_PLAID_FILE = "onnx_config.json"
MODEL_TYPE = "ColBERT"


@dataclass(frozen=True)
class LateInteractionSettings:
    """How texts become the tokens of a ColBERT model, as PyLate makes them.

    Attributes:
        query_length: A query's length in tokens, prefix and expansion included.
        document_length: The longest document in tokens, prefix included.
        query_prefix_id: The token after a query's first one; None: there is none.
        document_prefix_id: The token after a document's first one; None: there is none.
        do_query_expansion: Whether queries are filled up to ``query_length``.
        attend_to_expansion_tokens: Whether a query's tokens see those that fill it up.
        expansion_id: What fills queries up, and pads documents.
        skiplist_words: Tokens whose embeddings are left out of documents.
        do_lower_case: Whether texts are lowered before they are tokenized.
    """

    query_length: int
    document_length: int
    query_prefix_id: int | None
    document_prefix_id: int | None
    do_query_expansion: bool
    attend_to_expansion_tokens: bool
    expansion_id: int
    skiplist_words: tuple[str, ...]
    do_lower_case: bool

    @classmethod
    def read(cls, folder: Folder) -> LateInteractionSettings:
        """Return what ``config_sentence_transformers.json`` says, else ``onnx_config.json``.

        Raises:
            InputError: Neither file says it all, or a value is of the wrong type.
        """
        said = _said(folder)
        expands = _get(folder, said, "do_query_expansion", bool)
        return cls(
            query_length=_get(folder, said, "query_length", int),
            document_length=_get(folder, said, "document_length", int),
            query_prefix_id=_get(folder, said, "query_prefix_id", int | None),
            document_prefix_id=_get(folder, said, "document_prefix_id", int | None),
            do_query_expansion=expands,
            # PyLate takes this for false where there is nothing to attend to.
            attend_to_expansion_tokens=expands
            and _get(folder, said, "attend_to_expansion_tokens", bool),
            expansion_id=_get(folder, said, "mask_token_id", int),
            skiplist_words=tuple(map(str, _get(folder, said, "skiplist_words", list))),
            do_lower_case=_get(folder, said, "do_lower_case", bool),
        )


def is_colbert(folder: Folder) -> bool:
    """Return whether one of the files names the model type of ColBERT."""
    return _said(folder).get("model_type") == MODEL_TYPE


def _said(folder: Folder) -> Mapping[str, Any]:
    return {**folder.mapping(NEXT_PLAID_FILE), **folder.mapping(OWN_FILE)}


def _get(folder: Folder, said: Mapping[str, Any], key: str, kind: Any) -> Any:
    if key not in said:
        raise InputError(
            f"{folder.path}: neither {OWN_FILE} nor {NEXT_PLAID_FILE} has {key}, so that texts "
            "cannot be prepared for ColBERT: convert the checkpoint again"
        )
    value = said[key]
    # bool is an int to Python, but no length and no id.
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        name = OWN_FILE if key in folder.mapping(OWN_FILE) else NEXT_PLAID_FILE
        raise InputError(
            f"{folder.path / name}: {key} is {value!r}, which no text can be prepared with: "
            "convert the checkpoint again"
        )
    return value
