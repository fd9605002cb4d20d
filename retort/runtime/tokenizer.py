"""The folder's tokenizer, with the truncation and padding that transformers would apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from retort.errors import InputError
from retort.runtime.folder import Folder, read_json

# transformers writes about 1e30 for "no limit", and takes all above this for it.
NO_LIMIT = 1e20


class TextTokenizer:
    """A ``tokenizer.json`` together with the settings of its ``tokenizer_config.json``.

    Args:
        folder: The converted folder.
        max_length: The longest sequence in tokens, special tokens included; None: what
            :func:`declared_limit` says.
        overlap: The part of a window that the next one repeats, from 0 to below 1. 0 cuts the
            rest of a long text away; more keeps it as :attr:`tokenizers.Encoding.overflowing`.
        pad_id: The id that fills padding; None: that of the folder's padding token.

    Attributes:
        max_length: The longest sequence in tokens; None: without limit.
        step: How many tokens a window starts after the one before it; None without limit.

    Raises:
        InputError: ``tokenizer.json`` is missing or broken, or the limit leaves no room for text.
    """

    def __init__(
        self,
        folder: Folder,
        max_length: int | None = None,
        overlap: float = 0,
        pad_id: int | None = None,
    ) -> None:
        config = folder.mapping("tokenizer_config.json")
        self._folder = folder
        self._tokenizer = _read_tokenizer(folder)
        self._pad_id = _pad_id(folder, self._tokenizer) if pad_id is None else pad_id
        self._pads_left = config.get("padding_side") == "left"
        self.max_length = declared_limit(folder) if max_length is None else max_length
        self.step: int | None = None
        if self.max_length is not None:
            room = self.max_length - self._tokenizer.num_special_tokens_to_add(False)
            if room < 1:
                raise InputError(
                    f"{folder.path}: a limit of {self.max_length} tokens leaves no room for text: "
                    "correct max_seq_length or model_max_length"
                )
            repeated = int(room * overlap)
            self.step = room - repeated
            # Windows are counted from the start of the text, whatever side is cut otherwise.
            side = "right" if overlap else config.get("truncation_side", "right")
            self._tokenizer.enable_truncation(self.max_length, stride=repeated, direction=side)

    def encode(self, texts: Sequence[str | tuple[str, str]]) -> list[Encoding]:
        """Tokenize texts or pairs, special tokens added, at most ``max_length`` tokens each.

        Of a pair that is too long, the longer text is cut first.

        Raises:
            InputError: A text is not valid Unicode.
        """
        try:
            return list(self._tokenizer.encode_batch(list(texts)))
        except TypeError as error:  # all the texts are str: only a lone surrogate is left
            raise InputError("a text holds half a surrogate pair: decode it as UTF-8") from error

    def arrays(
        self, encodings: Sequence[Encoding], least_width: int = 1
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Return the three inputs of a graph, padded on the tokenizer's side.

        Args:
            encodings: The tokenized texts.
            least_width: The shortest sequence; longer texts make it longer.

        Returns:
            ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 ``[batch, sequence]``.
        """
        width = max([least_width, *(len(encoding.ids) for encoding in encodings)])
        shape = (len(encodings), width)
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        types = np.zeros(shape, dtype=np.int64)
        for row, encoding in enumerate(encodings):
            where = self.place(len(encoding.ids), width)
            ids[row, where] = encoding.ids
            mask[row, where] = 1
            types[row, where] = encoding.type_ids
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

    def place(self, length: int, width: int) -> slice:
        """Return where ``length`` tokens lie in a row of ``width``, padding left out."""
        return slice(width - length, width) if self._pads_left else slice(0, length)

    def token_id(self, token: str) -> int | None:
        """Return a token's id, else the unknown token's; None: there is neither."""
        known = self._tokenizer.token_to_id(token)
        return self._unknown_id if known is None else int(known)

    @cached_property
    def _unknown_id(self) -> int | None:
        declared = _role_id("unk_token", self._folder, self._tokenizer)
        if declared is not None:
            return declared
        model = read_json(self._folder.path / "tokenizer.json")["model"]
        own = model.get("unk_id")  # Unigram's name for it; other models name the token
        return own if own is not None else self._tokenizer.token_to_id(model.get("unk_token") or "")

    def special_ids(self) -> set[int]:
        """Return the ids of the special tokens, such as ``[SEP]``."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token_id for token_id, token in added.items() if token.special}


def declared_limit(folder: Folder) -> int | None:
    """Return the longest sequence that a folder's configs allow, in tokens; None: no limit.

    As in sentence-transformers' ``Transformer`` without ``max_seq_length``: the smaller of the
    tokenizer's ``model_max_length`` and the model's ``max_position_embeddings``.
    """
    declared = (
        folder.mapping("tokenizer_config.json").get("model_max_length"),
        folder.mapping("config.json").get("max_position_embeddings"),
    )
    limits = [int(limit) for limit in declared if limit is not None and limit <= NO_LIMIT]
    return min(limits, default=None)


def _read_tokenizer(folder: Folder) -> Tokenizer:
    path = folder.path / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path} is missing: copy the checkpoint's fast tokenizer there")
    # The library raises a bare Exception for broken files, so look at the file first.
    content = read_json(path)
    if not isinstance(content, dict) or "model" not in content:
        raise InputError(f"{path} describes no tokenizer: copy the checkpoint's file there again")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pad_id(folder: Folder, tokenizer: Tokenizer) -> int:
    """Return the id that fills padding; any would do, as the attention mask hides it."""
    declared = _role_id("pad_token", folder, tokenizer)
    if declared is not None:
        return declared
    return int(folder.mapping("config.json").get("pad_token_id") or 0)


def _role_id(role: str, folder: Folder, tokenizer: Tokenizer) -> int | None:
    """Return the id of the token that has a role, such as ``pad_token``; None: none has it."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _content(folder.mapping(name).get(role))
        token_id = None if token is None else tokenizer.token_to_id(token)
        if token_id is not None:
            return int(token_id)
    return None


def _content(token: str | Mapping[str, Any] | None) -> str | None:
    return str(token["content"]) if isinstance(token, Mapping) else token
