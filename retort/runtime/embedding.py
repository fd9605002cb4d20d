"""Texts to vectors, as ``SentenceTransformer.encode`` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from retort.errors import InputError
from retort.runtime.batching import check_text, check_texts, sorted_batches
from retort.runtime.folder import Folder
from retort.runtime.graph import Graph
from retort.runtime.heads import SENTENCE_OUTPUT, TOKEN_OUTPUTS, Head, choose_head
from retort.runtime.pooling import Floats, normalized
from retort.runtime.sentence_modules import TRANSFORMER_CONFIGS, Prompts, SentenceModules
from retort.runtime.similarity import SIMILARITIES, similarity
from retort.runtime.tokenizer import TextTokenizer


class EmbeddingModel:
    """A converted embedding model.

    Args:
        folder: The converted folder.
        graph: Its graph.

    Attributes:
        prompts: The prompts by name.

    Raises:
        InputError: A file of the folder cannot be used.
    """

    family: ClassVar[str] = "embedding"

    def __init__(self, folder: Folder, graph: Graph) -> None:
        self.graph = graph
        self._modules = SentenceModules.read(folder)
        self._prompts = Prompts.read(folder)
        self.prompts = self._prompts.texts
        transformer = folder.mapping(*TRANSFORMER_CONFIGS)
        self._lower = bool(transformer.get("do_lower_case", False))
        self._tokenizer = TextTokenizer(folder, transformer.get("max_seq_length"))
        self._similarity = _similarity_name(folder)

    @classmethod
    def recognises(cls, folder: Folder, graph: Graph) -> bool:
        """Return whether a graph of undeclared family gives vectors of tokens or of texts."""
        return not graph.outputs.keys().isdisjoint({SENTENCE_OUTPUT, *TOKEN_OUTPUTS})

    @property
    def max_length(self) -> int | None:
        """The longest text in tokens, special tokens included; None: without limit."""
        return self._tokenizer.max_length

    @cached_property
    def dimension(self) -> int:
        """The length of a vector, as ``encode`` gives it without options."""
        return int(self.encode("").shape[0])

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize: bool = False,
        show_progress: bool | None = None,
        pooling: str | None = None,
    ) -> Floats:
        """Return the vectors of texts, equal to those of ``SentenceTransformer.encode``.

        Args:
            texts: One text or several. White space at both ends is dropped, and what is longer
                than ``max_length`` tokens is cut.
            batch_size: Texts that are run together; texts of like length share a batch.
            prompt_name: The name of the prompt to put before each text; None: the default one.
            prompt: The prompt itself, instead of its name.
            normalize: Whether to scale the vectors to unit length.
            show_progress: Whether to show a progress bar; None: on a terminal.
            pooling: How to make a text's vector from its tokens' (``mean``, ``cls``, ``max``,
                ``lasttoken``, ``weightedmean`` or ``mean_sqrt_len_tokens``), instead of what the
                folder says. None: what the folder says.

        Returns:
            Float32 ``[n, dimension]`` in the order of the texts; ``[dimension]`` for one str.

        Raises:
            InputError: A text is not a str, or the folder has no such prompt or no pooling.
        """
        rows = check_texts(texts)
        prefix = check_text(self._prompts.choose(prompt_name, prompt), "the prompt")
        drops_prompt = bool(prefix) and not self._modules.include_prompt
        prompt_tokens = self._prompt_length(prefix) if drops_prompt else 0
        head = choose_head(self.graph, self._modules, pooling, prompt_tokens)
        batches = sorted_batches([len(row) for row in rows], batch_size, show_progress)
        order: list[int] = []
        # No rows of an empty text: the width of the result, even where there are no texts.
        parts = [] if rows else [self._embed([""], head)[:0]]
        for batch in batches:
            parts.append(self._embed([prefix + rows[index] for index in batch], head))
            order += batch
        vectors = np.concatenate(parts)[np.argsort(order)]
        if normalize:
            vectors = normalized(vectors)
        return np.asarray(vectors[0]) if isinstance(texts, str) else vectors

    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize: bool = False,
        show_progress: bool | None = None,
        pooling: str | None = None,
    ) -> Floats:
        """Return the vectors of queries: ``encode``, by default with the ``query`` prompt."""
        return self.encode(
            texts,
            batch_size=batch_size,
            prompt_name=_or_default(prompt_name, prompt, "query"),
            prompt=prompt,
            normalize=normalize,
            show_progress=show_progress,
            pooling=pooling,
        )

    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize: bool = False,
        show_progress: bool | None = None,
        pooling: str | None = None,
    ) -> Floats:
        """Return the vectors of documents: ``encode``, by default with the ``document`` prompt.

        sentence-transformers 5 also names ``passage`` and ``corpus``, but every model of it has a
        ``document`` prompt, empty if unset, so that these are never reached.
        """
        return self.encode(
            texts,
            batch_size=batch_size,
            prompt_name=_or_default(prompt_name, prompt, "document"),
            prompt=prompt,
            normalize=normalize,
            show_progress=show_progress,
            pooling=pooling,
        )

    def similarity(self, left: npt.ArrayLike, right: npt.ArrayLike) -> Floats:
        """Return how alike vectors are, by the model's own measure; larger is more alike.

        Args:
            left: Vectors ``[n, dimension]``, or one ``[dimension]``.
            right: Vectors ``[m, dimension]``, or one ``[dimension]``.

        Returns:
            Float32 ``[n, m]``.
        """
        return similarity(self._similarity, left, right)

    def _prompt_length(self, prompt: str) -> int:
        """Return how many tokens a prompt has, a closing special token not counted."""
        ids = self._tokenizer.encode([self._cleaned(prompt)])[0].ids
        closes = bool(ids) and ids[-1] in self._tokenizer.special_ids()
        return len(ids) - int(closes)

    def _cleaned(self, text: str) -> str:
        return text.strip().lower() if self._lower else text.strip()

    def _embed(self, texts: Sequence[str], head: Head) -> Floats:
        """Return the vectors of one batch, float32 ``[batch, dimension]``."""
        encodings = self._tokenizer.encode([self._cleaned(text) for text in texts])
        feeds = self._tokenizer.arrays(encodings)
        return head.apply(self.graph.run(feeds, head.output), feeds["attention_mask"])


def _or_default(prompt_name: str | None, prompt: str | None, default: str) -> str | None:
    return default if prompt_name is None and prompt is None else prompt_name


def _similarity_name(folder: Folder) -> str:
    config = folder.mapping("config_sentence_transformers.json")
    name = config.get("similarity_fn_name") or "cosine"
    if name not in SIMILARITIES:
        raise InputError(
            f"{folder.path}/config_sentence_transformers.json: there is no similarity {name!r}: "
            f"choose from {', '.join(SIMILARITIES)}"
        )
    return str(name)
