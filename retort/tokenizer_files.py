"""The tokenizer's files in a finished folder, as every consumer can read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retort.artifact import Checkpoint
from retort.errors import ConversionError
from retort.json_files import optional_object, read_json, write_json
from retort.talk import doing, third_party_quiet

# What transformers' save_pretrained bakes in from the last call, and fastembed then obeys.
BAKED_TOKENIZER_KEYS = ("pad_to_multiple_of", "padding", "stride", "truncation")


def settle_tokenizer(
    checkpoint: Checkpoint, maximum_length: int, folder: Path, added_tokens: Sequence[str] = ()
) -> None:
    """Write ``tokenizer.json`` without truncation or padding, and the true maximum length.

    Consumers obey what is baked into ``tokenizer.json``, and ``model_max_length`` and
    ``max_length`` in ``tokenizer_config.json``; a length of 1e30 makes some of them fail.

    Args:
        checkpoint: Where the tokenizer comes from.
        maximum_length: The longest input in tokens.
        folder: The folder in the making, with the tokenizer's files copied into it.
        added_tokens: Tokens that must be whole wherever a text has them.

    Raises:
        ConversionError: If the tokenizer has no fast form.
    """
    if not (folder / "tokenizer.json").is_file():
        _save_fast_tokenizer(checkpoint, folder)
    tokenizer = read_json(folder / "tokenizer.json")
    sides = _baked_sides(tokenizer)
    tokenizer.update(truncation=None, padding=None)
    if _lower_cases(folder):
        _keep_cased_tokens(tokenizer)
        steps = [{"type": "Lowercase"}, tokenizer.get("normalizer")]
        tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [s for s in steps if s]}
    write_json(folder / "tokenizer.json", tokenizer)
    _add_tokens(folder / "tokenizer.json", added_tokens)
    for path in _sentence_configs(folder):
        settings = read_json(path)
        if (settings.get("max_seq_length") or 0) > maximum_length:
            write_json(path, {**settings, "max_seq_length": maximum_length})
    path = folder / "tokenizer_config.json"
    config = optional_object(path)
    config = {key: value for key, value in config.items() if key not in BAKED_TOKENIZER_KEYS}
    config = {**sides, **config, "model_max_length": maximum_length}
    if "max_length" in config:
        config["max_length"] = maximum_length
    write_json(path, config)


def _keep_cased_tokens(content: dict[str, Any]) -> None:
    """Keep tokens with capitals, such as ``[Q] ``, from matching texts in lower case."""
    from tokenizers import Tokenizer

    normalizer = Tokenizer.from_str(json.dumps(content)).normalizer
    for token in content.get("added_tokens") or []:
        text = token["content"]
        normal = normalizer.normalize_str(text) if normalizer else text
        if normal != normal.lower():
            token["normalized"] = False


def _add_tokens(path: Path, tokens: Sequence[str]) -> None:
    if not tokens:
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = [token for token in tokens if token not in known]
    if missing:
        tokenizer.add_tokens(missing)
        tokenizer.save(str(path))


def _baked_sides(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    # transformers and fastembed read these from tokenizer.json where tokenizer_config.json is mute.
    # Old files name no direction, which means the right one.
    truncation, padding = tokenizer.get("truncation"), tokenizer.get("padding")
    sides = {}
    if truncation:
        sides["truncation_side"] = truncation.get("direction", "Right").lower()
    if padding:
        sides["padding_side"] = padding.get("direction", "Right").lower()
        sides["pad_token"] = padding["pad_token"]
    return sides


def _save_fast_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    with doing(f"conversion of the tokenizer of {checkpoint.model_id}"), third_party_quiet():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.backbone, trust_remote_code=checkpoint.trust_remote_code
        )
        tokenizer.save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ConversionError(
            f"{checkpoint.backbone}: its tokenizer has no fast form, and runtimes other than "
            "Python need tokenizer.json; add one to the checkpoint"
        )


def _lower_cases(folder: Path) -> bool:
    return any(read_json(path).get("do_lower_case") for path in _sentence_configs(folder))


def _sentence_configs(folder: Path) -> Iterator[Path]:
    return folder.glob("sentence_*_config.json")
