"""Queries and pages become the tokens that transformers' processors make of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from runtime_folders import merge_json, write_json
from transformers import ColPaliProcessor
from visual_checkpoints import gemma_tokenizer
from visual_images import noise
from visual_references import FAMILIES, QUERIES, VARIANTS, checkpoint_of, prompts, theirs

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.visual_prompts import colqwen2_prompts


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_are_those_of_the_processor(variant: str) -> None:
    ours, processor = prompts(variant.split()[0], checkpoint_of(variant)), theirs(variant).processor
    images = [noise(40, 30), noise(90, 200), noise(200, 28)]
    expected = processor.process_images(images)
    counts = (expected["input_ids"] == ours.page[ours.image]).sum(1).tolist()
    for made, wanted in (
        (ours.queries(QUERIES), processor.process_queries(QUERIES)),
        (ours.pages(counts), expected),
    ):
        for name in ("input_ids", "attention_mask"):
            np.testing.assert_array_equal(made[name], wanted[name])


def test_a_plain_gemma_tokenizer_is_changed_as_the_processor_changes_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint_of("colpali"), tmp_path / "folder"))
    plain = gemma_tokenizer("left")
    assert plain("a")["input_ids"][0] == plain.bos_token_id
    plain.save_pretrained(folder)
    expected = ColPaliProcessor.from_pretrained(folder).process_queries(QUERIES)
    made = prompts("colpali", folder).queries(QUERIES)
    for name in ("input_ids", "attention_mask"):
        np.testing.assert_array_equal(made[name], expected[name])


def test_the_own_tokens_of_a_query_are_its_words_without_prefix_and_suffix(family: str) -> None:
    ours = prompts(family, checkpoint_of(family))
    decode = theirs(family).processor.tokenizer.decode
    for text in ("what is it?", "größe 語", "a"):
        ids, own = ours.queries([text])["input_ids"][0], ours.own_tokens(text)
        assert decode(ids[own]).strip() == text
        assert decode(ids[~own]).startswith(ours.before.strip())
        assert decode(ids[~own]).endswith(ours.after)
    assert not ours.own_tokens("").any()


def test_without_processor_config_the_published_prompts_are_used(
    family: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint_of(family), tmp_path / "folder"))
    (folder / "processor_config.json").unlink()
    for bare, full in zip(
        prompts(family, folder).queries(QUERIES).values(),
        prompts(family, checkpoint_of(family)).queries(QUERIES).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(bare, full)
    assert prompts(family, folder).page == prompts(family, checkpoint_of(family)).page


def test_the_image_token_that_the_tokenizer_names_is_used(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint_of("colqwen2"), tmp_path / "folder"))
    change = {"extra_special_tokens": {"image_token": "<|video_pad|>"}}
    merge_json(folder / "tokenizer_config.json", change)
    (folder / "config.json").unlink()
    page = "<|video_pad|> shows"
    write_json(folder / "processor_config.json", {"visual_prompt_prefix": page})
    named = colqwen2_prompts(Folder(folder))
    assert named.image == 0
    assert named.tokenizer.token_id("<|video_pad|>") == named.page[0]


def test_a_page_prompt_must_hold_one_image(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint_of("colqwen2"), tmp_path / "folder"))
    for page, count in (("no image", 0), ("<|image_pad|> <|image_pad|>", 2)):
        write_json(folder / "processor_config.json", {"visual_prompt_prefix": page})
        with pytest.raises(InputError, match=f"visual_prompt_prefix has {count} images: correct"):
            colqwen2_prompts(Folder(folder))
