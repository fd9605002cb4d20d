"""``retort encode`` on ColQwen2 and ColPali folders: shapes, scores, and heatmaps over pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import retort_refused
from converted import old_layout, tagger
from PIL import Image
from visual_images import noise, save_sideways
from visual_references import FAMILIES, pair

from retort import cli

QUERIES = ["what is it?", "Wo ist es?"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pages(tmp_path: Path) -> list[str]:
    """Return the paths of two images."""
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    noise(61, 97).save(paths[0])
    return [str(paths[0]), str(save_sideways(paths[1]))]


def words(**given: list[str]) -> list[str]:
    """Return options that give each query and each image."""
    return [word for kind, row in given.items() for item in row for word in (f"--{kind}", item)]


def encoded(
    capture: pytest.CaptureFixture[str], family: str, *options: str
) -> list[dict[str, Any]]:
    """Run the command, and return the JSON objects on stdout."""
    assert cli.main(["encode", str(pair(family).folder), *options]) == 0
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def refused(capture: pytest.CaptureFixture[str], *options: str) -> str:
    """Run the command in vain, and return the one line that says why."""
    return retort_refused(capture, "encode", pair("colqwen2").folder, *options)


def test_each_query_and_image_has_a_line_with_its_shape_and_the_last_line_has_the_scores(
    family: str, pages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    *lines, last = encoded(capsys, family, *words(image=pages, query=QUERIES))
    model = pair(family).ours
    queries, images = model.encode_queries(QUERIES), model.encode_images(pages)
    expected: list[dict[str, Any]] = [
        {"kind": "query", "text": text, "shape": list(tokens.shape)}
        for text, tokens in zip(QUERIES, queries, strict=True)
    ]
    expected += [
        {"kind": "image", "path": path, "shape": list(tokens.shape)}
        for path, tokens in zip(pages, images, strict=True)
    ]
    assert lines == expected
    assert list(last) == ["scores"]
    np.testing.assert_allclose(last["scores"], model.score(queries, images), atol=1e-3)


def test_people_see_the_scores_as_a_table_with_the_best_page_of_a_query_first(
    family: str, pages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = words(image=pages, query=QUERIES)
    assert cli.main(["encode", str(pair(family).folder), *options]) == 0
    told = capsys.readouterr()
    (row, _) = json.loads(told.out.splitlines()[-1])["scores"]
    start = told.err.index(QUERIES[0])
    table = [float(line.split()[0]) for line in told.err[start:].splitlines()[1:3]]
    np.testing.assert_allclose(table, sorted(row, reverse=True), atol=1e-4)


def test_queries_or_images_alone_have_no_scores(
    family: str, pages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = encoded(capsys, family, "--query", "it")
    assert (line["kind"], line["text"]) == ("query", "it")
    lines = encoded(capsys, family, *words(image=pages))
    assert [(line["kind"], line["path"]) for line in lines] == [("image", path) for path in pages]


def test_out_saves_every_array_under_its_own_name(
    family: str, pages: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "tokens.npz", pair(family).ours
    options = [*words(image=pages, query=QUERIES), "--image_batch_size", "2", "--out", str(out)]
    assert cli.main(["encode", str(pair(family).folder), *options]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    saved = dict(np.load(out, allow_pickle=False))
    queries, images = model.encode_queries(QUERIES), model.encode_images(pages)
    names = ["query_0", "query_1", "image_0", "image_1", "scores"]
    assert list(saved) == names
    expected = [*queries, *images, model.score(queries, images)]
    for name, array in zip(names, expected, strict=True):
        np.testing.assert_allclose(saved[name], array, atol=1e-4)


def test_a_heatmap_is_drawn_over_the_upright_page(
    family: str, pages: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tmp_path / "heat.png"
    options = ["--query", QUERIES[0], "--image", pages[1], "--heatmap", str(drawn)]
    query, image, scores, last = encoded(capsys, family, *options)
    assert [query["kind"], image["kind"], *scores] == ["query", "image", "scores"]
    assert last == {"heatmap": str(drawn)}
    expected = pair(family).ours.heatmap(QUERIES[0], pages[1])
    with Image.open(drawn) as saved:
        assert saved.size == expected.size == (50, 80)
        assert np.abs(np.asarray(saved).astype(int) - np.asarray(expected)).max() <= 1


def test_a_heatmap_that_could_not_be_written_is_refused_before_anything_is_encoded(
    pages: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["--query", "it", "--image", pages[0], "--heatmap"]
    assert "names no format of images; call it heat.png" in refused(capsys, *one, "heat.xyz")
    assert "its folder does not exist" in refused(capsys, *one, str(tmp_path / "no" / "heat.png"))
    assert "would replace the image" in refused(capsys, *one, pages[0])
    several = words(query=QUERIES, image=pages[:1])
    assert "one query over one image" in refused(capsys, *several, "--heatmap", "heat.png")
    assert "one query over one image" in refused(capsys, "--query", "a", "--heatmap", "heat.png")
    (tmp_path / "folder.png").mkdir()
    assert "cannot be written" in refused(capsys, *one, str(tmp_path / "folder.png"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to encode; give --query or --image"),
        (["--text", "a"], "--text is for folders of text; give --query or --image"),
        (["--document", "a", "--query", "b"], "--document is for folders of text"),
        (["--query", "a", "--pooling", "mean"], "--pooling is for folders of text"),
        (["--query", "a", "--prompt_name", "query"], "--prompt_name is for folders of text"),
        (["--image", "nowhere.png"], "nowhere.png is no file: give the path of an image"),
        (["--query", "a", "--batch_size", "0"], "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *options)


def test_images_that_cannot_be_read_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.png"
    noise(40, 40).save(page)
    whole = page.read_bytes()
    for content, said in ((b"", "is empty"), (b"text", "cannot be read"), (whole[:300], "cannot")):
        page.write_bytes(content)
        assert f"{page} {said}" in refused(capsys, "--image", str(page))
    noise(3000, 9).save(page)
    assert "longer than 200 times its width" in refused(capsys, "--image", str(page))


@pytest.mark.parametrize("conversion", [old_layout, tagger])
@pytest.mark.parametrize("option", ["--image", "--heatmap"])
def test_images_are_refused_for_other_families(
    conversion: Any, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["encode", str(conversion().folder), "--text", "a", option, "b.png"]) == 2
    assert f"{option} is for ColPali and ColQwen2 folders" in capsys.readouterr().err


def test_the_command_imports_no_torch(family: str, pages: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from retort import cli; code = cli.main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    options = [*words(query=QUERIES[:1], image=pages[:1]), "--heatmap", str(tmp_path / "heat.jpg")]
    command = [sys.executable, "-c", script, "encode", str(pair(family).folder), *options]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=False).returncode == 0
