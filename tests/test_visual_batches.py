"""Random batches of ColQwen2 and ColPali, every graph against the untouched model row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from visual_references import FAMILIES, Array, pair

BATCHES = 25
TOLERANCE = 1e-5
# In patches; three of the five have one area, which a baked-in grid would confuse.
GRIDS = [(2, 8), (8, 2), (4, 4), (2, 16), (6, 4)]
FILES = {"combined": "model.onnx", "text": "text_model.onnx", "image": "image_model.onnx"}
WORDS = range(5, 80)
PATCH = 1176
SIDE = 56


@dataclass(frozen=True)
class Row:
    """One text, or one page: its tokens, and its image as the untouched model takes it."""

    ids: list[int]
    image: dict[str, torch.Tensor]


def text(random: np.random.Generator, longest: int = 20) -> Row:
    return Row(random.choice(WORDS, random.integers(1, longest + 1)).tolist(), {})


def qwen2_page(random: np.random.Generator, config: Any) -> Row:
    """Return a page; the untouched model finds an image by the token before it."""
    height, width = GRIDS[random.integers(len(GRIDS))]
    before, after = text(random).ids, text(random).ids
    pixels = random.standard_normal((1, height * width, PATCH)).astype(np.float32)
    image = {
        "pixel_values": torch.from_numpy(pixels),
        "image_grid_thw": torch.tensor([[1, height, width]]),
    }
    shown = [config.image_token_id] * (height * width // 4)
    return Row([*before, config.vision_start_token_id, *shown, *after], image)


def pali_page(random: np.random.Generator, config: Any) -> Row:
    pixels = random.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    ids = [*[config.image_token_id] * (SIDE // 14) ** 2, *text(random).ids]
    return Row(ids, {"pixel_values": torch.from_numpy(pixels)})


def qwen2_inputs(rows: Sequence[Row], random: np.random.Generator) -> dict[str, Array]:
    """Return padded patches; a batch of text has none, or some of zeros."""
    none = torch.zeros(1, 3, dtype=torch.int64)
    grids = [row.image.get("image_grid_thw", none)[0].numpy() for row in rows]
    most = int(max(grid.prod() for grid in grids)) or 4 * int(random.integers(0, 2))
    pixels = np.zeros((len(rows), most, PATCH), np.float32)
    for index, row in enumerate(rows):
        if row.image:
            pixels[index, : row.image["pixel_values"].shape[1]] = row.image["pixel_values"][0]
    return {"pixel_values": pixels, "image_grid_thw": np.stack(grids)}


def pali_inputs(rows: Sequence[Row], random: np.random.Generator) -> dict[str, Array]:
    """Return the images of the rows that have one."""
    del random
    shown = [row.image["pixel_values"].numpy() for row in rows if row.image]
    return {"pixel_values": np.concatenate([np.zeros((0, 3, SIDE, SIDE), np.float32), *shown])}


PAGES: dict[str, Callable[[np.random.Generator, Any], Row]] = {
    "colqwen2": qwen2_page,
    "colpali": pali_page,
}
INPUTS: dict[str, Callable[..., dict[str, Array]]] = {
    "colqwen2": qwen2_inputs,
    "colpali": pali_inputs,
}


def rows_of(family: str, number: int, *, images: bool) -> list[Row]:
    """Return one to four rows: text alone, pages alone, or both; the first text has one token."""
    random = np.random.default_rng(number)
    config = pair(family).theirs.model.config.vlm_config
    count = 1 + number % 4
    if number == 0:
        return [text(random, longest=1)]
    share = (0, 1, 0.5)[number % 3] if images else 0
    return [
        PAGES[family](random, config) if random.random() < share else text(random)
        for _ in range(count)
    ]


def expected(model: Any, row: Row) -> Array:
    ids = torch.tensor([row.ids])
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids), **row.image)
    embeddings: Array = found.embeddings[0].numpy()
    return embeddings


@pytest.mark.parametrize("variant", FILES)
@pytest.mark.parametrize("family", FAMILIES)
def test_random_batches_have_the_embeddings_of_the_untouched_model(
    family: str, variant: str
) -> None:
    both = pair(family)
    session = onnxruntime.InferenceSession(both.folder / "onnx" / FILES[variant])
    names = [value.name for value in session.get_inputs()]
    mixed = 0
    for number in range(BATCHES):
        rows = rows_of(family, number, images=variant != "text")
        mixed += len({bool(row.image) for row in rows}) == 2
        width = max(len(row.ids) for row in rows) + number % 2
        ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for index, row in enumerate(rows):
            length = len(row.ids)
            place = slice(width - length, width) if number % 4 < 2 else slice(0, length)
            ids[index, place], mask[index, place] = row.ids, 1
        images = INPUTS[family](rows, np.random.default_rng(number))
        given = {"input_ids": ids, "attention_mask": mask, **images}
        (actual,) = session.run(["embeddings"], {name: given[name] for name in names})
        for row, found, real in zip(rows, actual, mask.astype(bool), strict=True):
            wanted = expected(both.theirs.model, row)
            np.testing.assert_allclose(found[real], wanted, atol=TOLERANCE, rtol=0)
            assert not found[~real].any()
    assert mixed >= 3 or variant == "text"
