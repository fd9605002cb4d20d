"""What the runtime of ColQwen2 and ColPali promises, measured against transformers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from PIL import Image
from runtime_folders import merge_json
from visual_images import noise, odd_images, save_sideways, translucent
from visual_references import (
    FAMILIES,
    QUERIES,
    TOLERANCE,
    VARIANTS,
    assert_same,
    opened,
    pair,
    prompts,
)

from retort.errors import InputError
from retort.runtime import VisualModel, load
from retort.runtime.heatmap import draw_heatmap

PAGES = [noise(61, 97), translucent(83, 59), noise(160, 40).convert("L"), noise(28, 28)]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    """Return a converted folder of one's own."""
    return Path(shutil.copytree(pair(family).folder, tmp_path / "folder"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_of_queries_and_images_equal_those_of_transformers(variant: str) -> None:
    both = pair(variant)
    assert_same(both.ours.encode_queries(QUERIES), both.theirs.queries(QUERIES))
    assert_same(both.ours.encode_images(PAGES), both.theirs.images(PAGES))


@pytest.mark.parametrize(
    ("family", "graph", "text"),
    [
        ("colqwen2", "text_model.onnx", "the <|image_pad|> tag"),
        ("colpali", "model.onnx", "the <image> tag"),
    ],
)
def test_the_image_token_in_a_query_is_a_word(family: str, graph: str, text: str) -> None:
    ours, theirs = opened(pair(family).folder, graph), pair(family).theirs
    assert_same(ours.encode_queries([text, "it"]), theirs.queries([text, "it"]))


def test_images_of_every_kind_have_the_embeddings_of_transformers(family: str) -> None:
    both, images = pair(family), list(odd_images().values())
    assert_same(both.ours.encode_images(images, batch_size=5), both.theirs.images(images))


def test_paths_give_what_transformers_makes_of_them(family: str, tmp_path: Path) -> None:
    path, both = save_sideways(tmp_path / "photo.jpg"), pair(family)
    (expected,) = both.theirs.images([Image.open(path).transpose(Image.Transpose.ROTATE_270)])
    for given in (path, str(path)):
        assert_same([both.ours.encode_images(given)], [expected])
    with Image.open(path) as stored:
        as_stored = both.ours.encode_images(stored)
    assert as_stored.shape != expected.shape or np.abs(as_stored - expected).max() > 0.01


def test_prompts_show_in_the_embeddings(family: str) -> None:
    published, own = pair(family).ours, pair(f"{family} with its own prompts").ours
    for one, other in (
        (published.encode_queries("it"), own.encode_queries("it")),
        (published.encode_images(PAGES[0]), own.encode_images(PAGES[0])),
    ):
        assert one.shape != other.shape or np.abs(one - other).max() > 0.01


def test_embeddings_do_not_depend_on_the_batch(family: str) -> None:
    model = pair(family).ours
    alone = [model.encode_images(page) for page in PAGES]
    for size in (2, 3, 9):
        assert_same(model.encode_images(PAGES, batch_size=size), alone)
    alone = [model.encode_queries(text) for text in QUERIES]
    assert_same(model.encode_queries(QUERIES, batch_size=3), alone)


def test_one_item_gives_one_array_and_several_a_list(family: str, tmp_path: Path) -> None:
    model, path = pair(family).ours, tmp_path / "page.png"
    PAGES[0].save(path)
    assert model.encode_queries("it").shape[1] == model.dimension == 128
    assert_same(model.encode_images([path, PAGES[0]]), [model.encode_images(path)] * 2)
    assert_same(model.encode_images((PAGES[0],)), [model.encode_images(PAGES[0])])
    assert model.encode_queries([]) == model.encode_images([]) == []


def test_scores_are_those_of_the_processor(family: str) -> None:
    both = pair(family)
    queries, pages = both.ours.encode_queries(QUERIES), both.ours.encode_images(PAGES)
    tensors = [[torch.from_numpy(row) for row in rows] for rows in (queries, pages)]
    expected = both.theirs.processor.score_retrieval(*tensors)
    np.testing.assert_allclose(both.ours.score(queries, pages), expected, atol=TOLERANCE)
    assert both.ours.score(queries[0], pages[1]).shape == (1, 1)


def test_the_graph_of_text_alone_encodes_queries_and_refuses_images(family: str) -> None:
    model = opened(pair(family).folder, "text_model.onnx")
    assert_same(model.encode_queries(QUERIES), pair(family).theirs.queries(QUERIES))
    with pytest.raises(InputError, match=r"text_model\.onnx takes text alone: open the graph that"):
        model.encode_images(PAGES)


def test_the_graph_of_images_alone_encodes_them(family: str) -> None:
    model = opened(pair(family).folder, "image_model.onnx")
    assert_same(model.encode_images(PAGES), pair(family).theirs.images(PAGES))


def test_maps_hold_the_cosines_of_query_tokens_with_the_parts_in_their_places(
    family: str, tmp_path: Path
) -> None:
    both, path = pair(family), save_sideways(tmp_path / "photo.jpg")
    query, page = both.ours.encode_queries("what is it?"), both.ours.encode_images(path)
    maps = both.ours.similarity_maps(query, page, path)
    with Image.open(path) as stored:
        inputs = both.theirs.processor.process_images([stored.rotate(-90, expand=True)])
    rows, columns = (inputs["image_grid_thw"][0, 1:] // 2) if family == "colqwen2" else (4, 4)
    assert maps.shape == (len(query), rows, columns)
    ours = prompts(family, both.folder)
    shown = inputs["input_ids"][0] == ours.page[ours.image]
    (embeddings,) = both.theirs.embeddings(inputs)
    np.testing.assert_allclose(
        maps.reshape(len(query), -1), query @ embeddings[shown].T, atol=TOLERANCE
    )
    with pytest.raises(InputError, match=r"image 0 has . × . parts, but its embeddings are 3 tok"):
        both.ours.similarity_maps(query, page[:3], noise(50, 50))


def test_a_heatmap_is_hottest_where_the_words_of_the_query_are_most_alike(family: str) -> None:
    model, page = pair(family).ours, noise(100, 110).convert("RGBA")
    query, embeddings = model.encode_queries("what is it?"), model.encode_images(page)
    drawn = model.heatmap("what is it?", page)
    assert (drawn.mode, drawn.size) == ("RGB", page.size)
    given = model.heatmap("what is it?", page, query=query, page=embeddings)
    assert drawn.tobytes() == given.tobytes()
    own = prompts(family, pair(family).folder).own_tokens("what is it?")
    maps = model.similarity_maps(query, embeddings, page)
    expected = draw_heatmap(page.convert("RGB"), maps[own].max(axis=0))
    assert drawn.tobytes() == expected.tobytes()
    assert model.heatmap("", page).size == page.size
    with pytest.raises(InputError, match=r"the embeddings are \d+ tokens, but the query \d+"):
        model.heatmap("another", page, query=query[:5])


def test_colours_go_from_cold_to_hot_over_the_page() -> None:
    page = Image.new("RGB", (300, 200), "white")
    map_ = np.array([[0.1, 0.2, 0.1], [0.1, 0.1, 0.9]], dtype=np.float32)
    drawn = np.asarray(draw_heatmap(page, map_)).astype(int)
    warmth = drawn[..., 0] - drawn[..., 2]
    row, column = np.unravel_index(warmth.argmax(), warmth.shape)
    assert row >= 100
    assert column >= 200
    assert warmth[:60, :60].max() < 0
    flat = draw_heatmap(page, np.full((2, 3), 0.5, dtype=np.float32))
    assert len(flat.getcolors()) == 1


def test_a_folder_is_recognised_by_metadata_or_else_by_its_configuration(
    family: str, folder: Path
) -> None:
    assert type(load(folder)).family == family
    (folder / "conversion.json").unlink()
    for graph in folder.glob("onnx/*.onnx"):
        model = onnx.load(graph)
        del model.metadata_props[:]
        onnx.save(model, graph)
        assert type(load(graph)).family == family


def test_a_graph_with_other_outputs_is_refused(family: str, folder: Path) -> None:
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Identity", ["embeddings"], ["vectors"]))
    model.graph.output[0].name = "vectors"
    onnx.save(model, path)
    with pytest.raises(InputError, match="outputs vectors, but no token embeddings named embed"):
        load(folder)


def test_a_graph_of_another_family_that_asks_for_images_is_refused(folder: Path) -> None:
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    helper.set_model_props(model, {"family": "embedding"})
    model.graph.node.append(helper.make_node("Identity", ["embeddings"], ["last_hidden_state"]))
    model.graph.output[0].name = "last_hidden_state"
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"model\.onnx asks for pixel_values"):
        load(folder).encode("text", pooling="mean")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("processor_config.json", {"query_prefix": 3}, "query_prefix is 3: correct it to a text"),
        ("config.json", {"vlm_config": {"image_token_id": 5}}, "image token <.*> is .*, but 5 in"),
        ("preprocessor_config.json", {"do_resize": False}, "do_resize is false"),
    ],
)
def test_files_that_nothing_can_be_prepared_with_are_told(
    file: str, change: dict[str, Any], said: str, folder: Path
) -> None:
    merge_json(folder / file, change)
    with pytest.raises(InputError, match=said):
        load(folder)


def test_a_bad_image_is_told_before_any_is_encoded(family: str, tmp_path: Path) -> None:
    model = pair(family).ours
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"empty\.png is empty"):
        model.encode_images([PAGES[0], tmp_path / "empty.png"])
    with pytest.raises(InputError, match="image 1 is 0 × 4 pixels"):
        model.encode_images([PAGES[0], Image.new("RGB", (0, 4))])
    for images in (3, None, b"bytes", [3], np.zeros((4, 4, 3))):
        with pytest.raises(InputError, match="PIL image"):
            model.encode_images(images)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        model.encode_images(PAGES, batch_size=0)


def test_a_strip_is_refused_where_transformers_refuses_it() -> None:
    with pytest.raises(InputError, match="image 0 is 2010 × 10 pixels, longer than 200 times"):
        pair("colqwen2").ours.encode_images([noise(2010, 10)])
    both = pair("colpali")
    assert_same(both.ours.encode_images([noise(2010, 10)]), both.theirs.images([noise(2010, 10)]))


@pytest.mark.parametrize("texts", [None, 3, b"bytes", ["good", None], ["half \ud83d"]])
def test_what_is_not_a_text_is_refused(texts: object, family: str) -> None:
    with pytest.raises(InputError, match=r"str|surrogate"):
        pair(family).ours.encode_queries(texts)  # type: ignore[arg-type]


def test_progress_is_shown_when_asked_for(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = pair(family).ours
    model.encode_images(PAGES[:3])
    assert capsys.readouterr() == ("", "")
    model.encode_images(PAGES[:3], show_progress=True)
    assert "3/3" in capsys.readouterr().err


def test_images_are_encoded_without_torch_and_queries_without_pillow(
    family: str, tmp_path: Path
) -> None:
    page, folder = tmp_path / "page.png", str(pair(family).folder)
    PAGES[0].save(page)
    script = (
        "import sys; from retort.runtime import load; model = load(sys.argv[1])\n"
        "if len(sys.argv) > 2: model.encode_images(sys.argv[2:])\n"
        "else: model.encode_queries('what?')\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'optimum', 'onnx', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    for images, imported in (([], "[]"), ([str(page)], "['PIL']")):
        command = [sys.executable, "-c", script, folder, *images]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        assert finished.stdout.strip() == imported


def test_both_classes_are_one_kind_of_model() -> None:
    assert all(isinstance(load(pair(family).folder), VisualModel) for family in FAMILIES)
