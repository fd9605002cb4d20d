"""How next-plaid-onnx turns texts into token embeddings: its encoding (src/lib.rs), in Python.

Of a folder it reads ``model.onnx`` or ``model_int8.onnx``, ``tokenizer.json`` and
``onnx_config.json``, all in the root, and no other file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

SETTINGS_FILE = "onnx_config.json"
# Every field with its default; serde refuses the whole file for one value of another type.
DEFAULTS: Mapping[str, Any] = {
    "model_type": "ColBERT",
    "model_name": None,
    "model_class": None,
    "uses_token_type_ids": True,
    "query_prefix": "[Q] ",
    "document_prefix": "[D] ",
    "query_length": 48,
    "document_length": 300,
    "do_query_expansion": True,
    "attend_to_expansion_tokens": False,
    "skiplist_words": [],
    "embedding_dim": 128,
    "mask_token_id": 103,
    "pad_token_id": 0,
    "query_prefix_id": None,
    "document_prefix_id": None,
    "do_lower_case": False,
}
_OPTIONAL = {
    "model_name": str,
    "model_class": str,
    "query_prefix_id": int,
    "document_prefix_id": int,
}
# Ids that it takes for not told, and the tokens whose ids it then looks for.
_GUESSED = {"mask_token_id": ("[MASK]", "<mask>"), "pad_token_id": ("[PAD]", "<pad>")}


def parsed_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is read of ``onnx_config.json``.

    Raises:
        TypeError: A value is not of the type that the field has in Rust.
    """
    settings = {**DEFAULTS, **{key: content[key] for key in DEFAULTS if key in content}}
    for key, value in settings.items():
        if not _fits(key, value):
            raise TypeError(f"{key} cannot be {value!r}")
    return settings


def _fits(key: str, value: Any) -> bool:
    if key in _OPTIONAL and value is None:
        return True
    kind = _OPTIONAL.get(key) or type(DEFAULTS[key])
    if type(value) is not kind:  # a bool is no number there
        return False
    if kind is int:
        return 0 <= value < 2**32
    return kind is not list or all(type(word) is str for word in value)


class NextPlaid:
    """A folder as next-plaid opens it.

    Args:
        folder: The folder.
        quantized: Whether to take ``model_int8.onnx``.
    """

    def __init__(self, folder: Path, *, quantized: bool = False) -> None:
        name = "model_int8.onnx" if quantized else "model.onnx"
        self.session = onnxruntime.InferenceSession(folder / name)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        content = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        self.settings = parsed_settings(content)
        for key, tokens in _GUESSED.items():
            found = [self.tokenizer.token_to_id(token) for token in tokens]
            known = [index for index in found if index is not None]
            if self.settings[key] == DEFAULTS[key] and known:
                self.settings[key] = known[0]
        words = map(self.tokenizer.token_to_id, self.settings["skiplist_words"])
        self.skipped = {index for index in words if index is not None}

    def encode_documents(self, texts: Sequence[str]) -> list[Array]:
        """Return ``[tokens, dim]`` for each text, without the tokens of the skiplist."""
        rows = self._rows(texts, "document")
        embeddings = self._run(rows, max(map(len, rows)), self.settings["pad_token_id"], 0)
        return [
            tokens[: len(row)][[index not in self.skipped for index in row]]
            for tokens, row in zip(embeddings, rows, strict=True)
        ]

    def encode_queries(self, texts: Sequence[str]) -> list[Array]:
        """Return ``[tokens, dim]`` for each text: all ``query_length`` of them if it expands."""
        rows = self._rows(texts, "query")
        if self.settings["do_query_expansion"]:
            length = self.settings["query_length"]
            return list(self._run(rows, length, self.settings["mask_token_id"], 1))
        embeddings = self._run(rows, max(map(len, rows)), self.settings["pad_token_id"], 0)
        return [tokens[: len(row)] for tokens, row in zip(embeddings, rows, strict=True)]

    def _rows(self, texts: Sequence[str], kind: str) -> list[list[int]]:
        """Return each text's tokens: cut, the last one kept, the prefix after the first one."""
        prefix = self.settings[f"{kind}_prefix_id"]
        if prefix is None:
            prefix = self.tokenizer.token_to_id(self.settings[f"{kind}_prefix"])
        if prefix is None:
            raise KeyError(f"no token {self.settings[f'{kind}_prefix']!r}")
        stripped = [text.strip() for text in texts]
        if self.settings["do_lower_case"]:
            stripped = [text.lower() for text in stripped]
        room = self.settings[f"{kind}_length"] - 1
        rows = []
        for encoding in self.tokenizer.encode_batch(stripped):
            real = sum(takewhile(bool, encoding.attention_mask))
            ids = encoding.ids[: max(real, 1)]
            first, *others = ids if len(ids) <= room else [*ids[: room - 1], ids[-1]]
            rows.append([first, prefix, *others])
        return rows

    def _run(self, rows: Sequence[Sequence[int]], width: int, filler: int, attention: int) -> Array:
        """Return ``output`` ``[batch, width, dim]`` for rows filled up on the right."""
        shape = (len(rows), width)
        feeds: dict[str, Ids] = {
            "input_ids": np.full(shape, filler, np.int64),
            "attention_mask": np.full(shape, attention, np.int64),
        }
        for place, row in enumerate(rows):
            feeds["input_ids"][place, : len(row)] = row
            feeds["attention_mask"][place, : len(row)] = 1
        if self.settings["uses_token_type_ids"]:
            feeds["token_type_ids"] = np.zeros(shape, np.int64)
        (output,) = self.session.run(["output"], feeds)
        assert output.dtype == np.float32, "it reads nothing else"
        return np.asarray(output)
