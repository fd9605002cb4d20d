"""Queries and pages as tokens, with the prompts that transformers' processors put around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Encoding
from tokenizers.processors import TemplateProcessing

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.tokenizer import TextTokenizer

Ids = npt.NDArray[np.int64]

SETTINGS = "processor_config.json"
AUGMENTATION = 10  # padding tokens behind a query, which the models reason in

QWEN2_QUERY = "Query: "
QWEN2_PAGE = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image."
    "<|im_end|><|endoftext|>"
)
QWEN2_IMAGE = "<|image_pad|>"
QWEN2_PADDING = "<|endoftext|>"

PALI_QUERY = "Question: "
PALI_PAGE = "Describe the image."
PALI_IMAGE = "<image>"
PALI_PADDING = "<pad>"
PALI_START = "<bos>"
PALI_PLACES = tuple(f"<loc{place:04}>" for place in range(1024))
PALI_SEGMENTS = tuple(f"<seg{segment:03}>" for segment in range(128))


class PromptTokenizer(TextTokenizer):
    """A tokenizer that cuts nothing, since the processors cut nothing."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        self._tokenizer.no_truncation()
        self.max_length = self.step = None

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Ids]:
        """Return ``input_ids`` and ``attention_mask``, int64 ``[batch, sequence]``."""
        shape = (len(rows), max(len(row) for row in rows))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for index, row in enumerate(rows):
            where = self.place(len(row), shape[1])
            ids[index, where] = row
            mask[index, where] = 1
        return {"input_ids": ids, "attention_mask": mask}


class PaliGemmaTokenizer(PromptTokenizer):
    """Gemma's tokenizer as ColPali's processor changes it.

    It knows the tokens of images, places and segments, and puts no tokens around a text.
    """

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        self._tokenizer.add_special_tokens([AddedToken(PALI_IMAGE, normalized=False)])
        self._tokenizer.add_tokens([*PALI_PLACES, *PALI_SEGMENTS])
        self._tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B")


@dataclass(frozen=True)
class VisualPrompts:
    """What surrounds a query, and what surrounds a page.

    Attributes:
        tokenizer: The folder's tokenizer.
        before: What stands before a query.
        after: What stands behind it.
        page: The ids of a page's prompt, in which one token stands for all of the image's.
        image: The place of that token.
    """

    tokenizer: PromptTokenizer
    before: str
    after: str
    page: tuple[int, ...]
    image: int

    def queries(self, texts: Sequence[str]) -> dict[str, Ids]:
        """Return ``input_ids`` and ``attention_mask`` of queries, int64 ``[batch, sequence]``.

        Raises:
            InputError: A text is not valid Unicode.
        """
        return self.tokenizer.padded([encoding.ids for encoding in self._encoded(texts)])

    def pages(self, tokens: Sequence[int]) -> dict[str, Ids]:
        """Return ``input_ids`` and ``attention_mask`` of pages, int64 ``[batch, sequence]``.

        Args:
            tokens: How many tokens each page's image has.
        """
        before, image, after = np.split(np.array(self.page), [self.image, self.image + 1])
        rows = [np.concatenate([before, np.repeat(image, count), after]) for count in tokens]
        return self.tokenizer.padded([row.tolist() for row in rows])

    def own_tokens(self, text: str) -> npt.NDArray[np.bool_]:
        """Return which tokens of a query hold a part of the text itself, ``[tokens]``."""
        (encoding,) = self._encoded([text])
        start, end = len(self.before), len(self.before) + len(text)
        return np.array([left < end and right > start for left, right in encoding.offsets])

    def _encoded(self, texts: Sequence[str]) -> list[Encoding]:
        return self.tokenizer.encode([self.before + text + self.after for text in texts])


def colqwen2_prompts(folder: Folder) -> VisualPrompts:
    """Return the prompts of a ColQwen2 folder.

    Raises:
        InputError: A file of the folder cannot be used.
    """
    tokenizer = PromptTokenizer(folder)
    extra = folder.mapping("tokenizer_config.json").get("extra_special_tokens")
    own = extra.get("image_token") if isinstance(extra, dict) else None
    image = _image_id(folder, tokenizer, own or QWEN2_IMAGE)
    page = tokenizer.encode([_setting(folder, "visual_prompt_prefix", QWEN2_PAGE)])[0].ids
    if page.count(image) != 1:
        raise InputError(
            f"{folder.path / SETTINGS}: visual_prompt_prefix has {page.count(image)} images: "
            "correct it to hold one"
        )
    return VisualPrompts(
        tokenizer,
        before=_setting(folder, "query_prefix", QWEN2_QUERY),
        after=_role(folder, "pad_token", QWEN2_PADDING) * AUGMENTATION,
        page=tuple(page),
        image=page.index(image),
    )


def colpali_prompts(folder: Folder) -> VisualPrompts:
    """Return the prompts of a ColPali folder.

    Raises:
        InputError: A file of the folder cannot be used.
    """
    tokenizer = PaliGemmaTokenizer(folder)
    start = _role(folder, "bos_token", PALI_START)
    page = f"{start}{_setting(folder, 'visual_prompt_prefix', PALI_PAGE)}\n"
    image = _image_id(folder, tokenizer, PALI_IMAGE)
    return VisualPrompts(
        tokenizer,
        before=start + _setting(folder, "query_prefix", PALI_QUERY),
        after=_role(folder, "pad_token", PALI_PADDING) * AUGMENTATION + "\n",
        page=(image, *tokenizer.encode([page])[0].ids),
        image=0,
    )


def _setting(folder: Folder, name: str, default: str) -> str:
    value = folder.mapping(SETTINGS).get(name)
    if not isinstance(value, str | None):
        raise InputError(f"{folder.path / SETTINGS}: {name} is {value!r}: correct it to a text")
    return default if value is None else value


def _role(folder: Folder, role: str, default: str) -> str:
    """Return the token that has a role, such as ``pad_token``."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = folder.mapping(name).get(role)
        if token is not None:
            return str(token["content"] if isinstance(token, dict) else token)
    return default


def _image_id(folder: Folder, tokenizer: PromptTokenizer, token: str) -> int:
    """Return the id of the image token, which the graph and the tokenizer must agree on."""
    model = folder.mapping("config.json").get("vlm_config") or {}
    declared = model.get("image_token_id", model.get("image_token_index"))
    known = tokenizer.token_id(token)
    if known is None or declared not in {None, known}:
        raise InputError(
            f"{folder.path}: the image token {token} is {known} in tokenizer.json, but "
            f"{declared} in config.json: copy both from one checkpoint"
        )
    return known
