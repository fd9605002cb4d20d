"""What the sentence-transformers files of a folder say: its modules and its prompts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retort.errors import InputError
from retort.runtime.folder import Folder, read_json
from retort.runtime.pooling import POOLINGS

logger = logging.getLogger(__name__)

# Older checkpoints name the file after the backbone.
TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)

POOLING_KEYS: Mapping[str, str] = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@dataclass(frozen=True)
class SentenceModules:
    """What follows the backbone in ``modules.json``.

    Attributes:
        modes: The poolings, in the order in which they are joined; empty: there is none.
        include_prompt: Whether the tokens of a prompt take part in the pooling.
        normalize: Whether the vectors are scaled to unit length at the end.
        others: The class names of all other modules, such as ``Dense``.
    """

    modes: tuple[str, ...] = ()
    include_prompt: bool = True
    normalize: bool = False
    others: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Folder) -> SentenceModules:
        """Return what a folder's ``modules.json`` says; nothing, if it has none."""
        path = folder.path / "modules.json"
        modules = read_json(path) if path.is_file() else []
        classes = {str(module["type"]).rpartition(".")[2]: module for module in modules}
        pooling = {}
        if "Pooling" in classes:
            pooling = folder.mapping(f"{classes['Pooling']['path']}/config.json")
        return cls(
            modes=_pooling_modes(pooling) if "Pooling" in classes else (),
            include_prompt=bool(pooling.get("include_prompt", True)),
            normalize="Normalize" in classes,
            others=tuple(sorted(set(classes) - {"Transformer", "Pooling", "Normalize"})),
        )


def _pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    if config.get("pooling_mode"):
        return checked_modes(str(config["pooling_mode"]).lower())
    # sentence-transformers takes the mean unless a config says otherwise.
    chosen = {POOLING_KEYS["mean"]: True, **config}
    return tuple(mode for mode in POOLINGS if chosen.get(POOLING_KEYS[mode]))


def checked_modes(name: str) -> tuple[str, ...]:
    """Return ``name`` as a tuple of one pooling.

    Raises:
        InputError: There is no such pooling.
    """
    if name not in POOLINGS:
        raise InputError(f"there is no pooling {name!r}: choose from {', '.join(POOLINGS)}")
    return (name,)


@dataclass(frozen=True)
class Prompts:
    """The texts that a model wants before a query or a document.

    Attributes:
        texts: The prompts by name. ``query`` and ``document`` are always there, empty if unset.
        default: The name of the prompt that is used when none is asked for.
    """

    texts: Mapping[str, str]
    default: str | None = None

    @classmethod
    def read(cls, folder: Folder) -> Prompts:
        """Return the prompts of ``config_sentence_transformers.json``.

        Raises:
            InputError: The default prompt is not one of them.
        """
        config = folder.mapping("config_sentence_transformers.json")
        texts = {"query": "", "document": "", **(config.get("prompts") or {})}
        prompts = cls(texts, config.get("default_prompt_name"))
        prompts.choose(None, None)
        return prompts

    def choose(self, name: str | None, prompt: str | None) -> str:
        """Return the prompt to use: ``prompt``, else the one of this name, else the default.

        Raises:
            InputError: There is no prompt of that name.
        """
        if prompt is not None:
            if name is not None:
                logger.warning("both prompt and prompt_name are given: using prompt")
            return prompt
        chosen = name if name is not None else self.default
        if chosen is None:
            return ""
        if chosen not in self.texts:
            raise InputError(f"there is no prompt {chosen!r}: choose from {', '.join(self.texts)}")
        return self.texts[chosen]
