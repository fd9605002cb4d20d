"""Queries and documents as the inputs of a ColBERT graph, in PyLate's layout of tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retort.runtime.folder import Folder
from retort.runtime.late_interaction_settings import LateInteractionSettings
from retort.runtime.tokenizer import TextTokenizer, declared_limit

logger = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]
# The prefix stands in the second column, whatever the first holds; PyLate does so with padding too.
PREFIX_COLUMN = 1


@dataclass(frozen=True)
class TokenLayout:
    """How one kind of text, queries or documents, is laid out in tokens.

    Attributes:
        tokenizer: Cuts texts so that the prefix still has room.
        length: The longest sequence in tokens, prefix included.
        prefix_id: The token in the second column; None: there is none.
        expands: Whether every text is filled up to ``length``, and all its tokens count.
        attends: Whether the tokens that fill a text up are attended to.
        skipped_ids: Tokens that do not count.
        do_lower_case: Whether texts are lowered first.
    """

    tokenizer: TextTokenizer
    length: int
    prefix_id: int | None
    expands: bool
    attends: bool
    skipped_ids: tuple[int, ...]
    do_lower_case: bool

    @classmethod
    def of_queries(cls, folder: Folder, settings: LateInteractionSettings) -> TokenLayout:
        """Return the layout of a folder's queries."""
        length = _length(folder, settings.query_length, "query_length")
        return cls(
            tokenizer=_tokenizer(folder, settings, length, settings.query_prefix_id),
            length=length,
            prefix_id=settings.query_prefix_id,
            expands=settings.do_query_expansion,
            attends=settings.attend_to_expansion_tokens,
            skipped_ids=(),
            do_lower_case=settings.do_lower_case,
        )

    @classmethod
    def of_documents(cls, folder: Folder, settings: LateInteractionSettings) -> TokenLayout:
        """Return the layout of a folder's documents."""
        length = _length(folder, settings.document_length, "document_length")
        tokenizer = _tokenizer(folder, settings, length, settings.document_prefix_id)
        # As for PyLate, a word that the vocabulary lacks stands for the unknown token.
        skipped = {tokenizer.token_id(word) for word in settings.skiplist_words}
        return cls(
            tokenizer=tokenizer,
            length=length,
            prefix_id=settings.document_prefix_id,
            expands=False,
            attends=False,
            skipped_ids=tuple(sorted(index for index in skipped if index is not None)),
            do_lower_case=settings.do_lower_case,
        )

    def feeds(self, texts: Sequence[str]) -> dict[str, Ids]:
        """Return the inputs of a graph for one batch.

        Returns:
            ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 ``[batch, sequence]``.

        Raises:
            InputError: A text is not valid Unicode.
        """
        stripped = [text.strip() for text in texts]
        if self.do_lower_case:
            stripped = [text.lower() for text in stripped]
        width = self.tokenizer.max_length if self.expands else None
        feeds = self.tokenizer.arrays(self.tokenizer.encode(stripped), width or 1)
        if self.prefix_id is not None:
            feeds = _with_prefix(feeds, self.prefix_id)
        if self.attends:
            feeds["attention_mask"][:] = 1
        return feeds

    def counted(self, feeds: Mapping[str, Ids]) -> npt.NDArray[np.bool_]:
        """Return which tokens' embeddings make up a text, ``[batch, sequence]``."""
        if self.expands:
            return np.ones(feeds["input_ids"].shape, dtype=np.bool_)
        skipped = np.isin(feeds["input_ids"], self.skipped_ids)
        return (feeds["attention_mask"] != 0) & ~skipped


def _with_prefix(feeds: Mapping[str, Ids], prefix_id: int) -> dict[str, Ids]:
    inserted = {"input_ids": prefix_id, "attention_mask": 1, "token_type_ids": 0}
    return {
        name: np.insert(values, PREFIX_COLUMN, inserted[name], axis=1)
        for name, values in feeds.items()
    }


def _length(folder: Folder, length: int, name: str) -> int:
    limit = declared_limit(folder)
    if limit is None or length <= limit:
        return length
    logger.warning("%s: %s is %d, but the model takes %d tokens", folder.path, name, length, limit)
    return limit


def _tokenizer(
    folder: Folder, settings: LateInteractionSettings, length: int, prefix_id: int | None
) -> TextTokenizer:
    room = length if prefix_id is None else length - 1
    return TextTokenizer(folder, room, pad_id=settings.expansion_id)
