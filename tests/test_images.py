"""Images become the pixels that transformers' slow processors make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runtime_folders import merge_json, write_json
from transformers import Qwen2VLImageProcessor, SiglipImageProcessor, image_utils
from visual_images import noise, odd_images, save_sideways

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.image_settings import Grid
from retort.runtime.images import load_image
from retort.runtime.qwen2_images import Qwen2Images
from retort.runtime.siglip_images import SiglipImages

TOLERANCE = 1e-5
LIMITS = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 60}
SETTINGS: dict[str, dict[str, Any]] = {
    "as published": {},
    "one level and spread for all colours": {"image_mean": 0.4, "image_std": 0.3},
    "another filter": {"resample": 2},
    "another scale": {"rescale_factor": 1 / 127},
    "unscaled": {"do_rescale": False},
    "not normalised": {"do_normalize": False},
    "levels as they are": {"do_rescale": False, "do_normalize": False},
}


def qwen2(folder: Path, **settings: Any) -> tuple[Qwen2Images, Qwen2VLImageProcessor]:
    """Return the runtime's processor and transformers', with the same settings."""
    theirs = Qwen2VLImageProcessor(**{**LIMITS, **settings})
    theirs.save_pretrained(folder)
    return Qwen2Images.read(Folder(folder)), theirs


def siglip(folder: Path, **settings: Any) -> tuple[SiglipImages, SiglipImageProcessor]:
    """Return the runtime's processor and transformers', with the same settings."""
    size = {"height": 70, "width": 70}
    theirs = SiglipImageProcessor(size=size, do_convert_rgb=True, **settings)
    theirs.image_seq_length = 25
    theirs.save_pretrained(folder)
    return SiglipImages.read(Folder(folder)), theirs


def opened_by_transformers(image: Path | Image.Image) -> Image.Image:
    """Return what the processors take: of a path what ``load_image`` makes of it."""
    if not isinstance(image, Path):
        return image
    with Image.open(image) as opened:  # transformers leaves some files open
        return image_utils.load_image(opened)


def assert_same(ours: Any, theirs: Any, images: list[Any]) -> None:
    """Compare the inputs of a graph, image by image, as patches have no axis for images."""
    for image in images:
        feeds = ours.feeds([load_image(image, "image")])
        expected = theirs(images=[opened_by_transformers(image)])
        np.testing.assert_allclose(
            feeds["pixel_values"][0],
            np.asarray(expected["pixel_values"]).reshape(feeds["pixel_values"][0].shape),
            atol=TOLERANCE,
        )
        assert feeds["pixel_values"].dtype == np.float32
        if "image_grid_thw" in expected:
            np.testing.assert_array_equal(feeds["image_grid_thw"], expected["image_grid_thw"])


@pytest.mark.parametrize("made", [qwen2, siglip])
@pytest.mark.parametrize("kind", odd_images())
def test_images_of_every_kind_have_the_slow_processors_pixels(
    kind: str, made: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    assert_same(*made(tmp_path), [odd_images()[kind]])


@pytest.mark.parametrize("made", [qwen2, siglip])
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_of_the_file_is_obeyed(
    settings: str, made: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    assert_same(*made(tmp_path, **SETTINGS[settings]), [noise(61, 97), noise(40, 30)])


@pytest.mark.parametrize("made", [qwen2, siglip])
@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp", "gif", "webp", "jpg"])
def test_files_of_every_format_are_read_as_transformers_reads_them(
    suffix: str, made: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    path = tmp_path / f"page.{suffix}"
    noise(66, 90).save(path)
    assert_same(*made(tmp_path), [path])


@pytest.mark.parametrize("made", [qwen2, siglip])
def test_a_file_is_turned_upright_but_a_pil_image_is_taken_as_it_is(
    made: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    path = save_sideways(tmp_path / "photo.jpg")
    with Image.open(path) as stored:
        assert_same(*made(tmp_path), [path, stored])
        assert load_image(stored, "image").size == (80, 50)
    assert load_image(path, "image").size == (50, 80)
    assert load_image(str(path), "image").getpixel((45, 5)) == pytest.approx((200, 20, 20), abs=9)


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"min_pixels": 28 * 28, "max_pixels": 28 * 28},
        {"min_pixels": 28 * 28 * 20, "max_pixels": 28 * 28 * 21},
        {"patch_size": 8, "merge_size": 3, "temporal_patch_size": 1},
        {"merge_size": 1},
    ],
)
def test_grids_are_the_slow_processors_at_every_shape(
    limits: dict[str, int], tmp_path: Path
) -> None:
    ours, theirs = qwen2(tmp_path, **limits)
    random = np.random.default_rng(3)
    for width, height in [*random.integers(4, 300, (60, 2)).tolist(), (4, 800), (800, 4)]:
        grid = ours.grid(width, height, "image")
        patches = theirs.get_number_of_image_patches(height, width, {})
        image = Image.new("L", (width, height))
        ((_, rows, columns),) = theirs(images=[image])["image_grid_thw"]
        assert (grid.rows, grid.columns) == (rows // ours.merge_size, columns // ours.merge_size)
        assert patches == rows * columns


def test_patches_of_several_images_are_filled_up_with_zeros(tmp_path: Path) -> None:
    ours, theirs = qwen2(tmp_path)
    images = [noise(60, 60), noise(120, 200), noise(28, 150)]
    feeds = ours.feeds(images)
    assert feeds["pixel_values"].shape == (3, max(feeds["image_grid_thw"].prod(1)), 1176)
    for image, row, grid in zip(images, *feeds.values(), strict=True):
        expected = theirs(images=[image])["pixel_values"]
        np.testing.assert_allclose(row[: grid.prod()], expected, atol=TOLERANCE)
        assert not row[grid.prod() :].any()


def test_without_images_there_are_no_patches_and_no_grid(tmp_path: Path) -> None:
    feeds = qwen2(tmp_path)[0].no_images(3)
    assert feeds["pixel_values"].shape == (3, 0, 1176)
    assert feeds["image_grid_thw"].tolist() == [[0, 0, 0]] * 3
    assert feeds["image_grid_thw"].dtype == np.int64
    assert siglip(tmp_path)[0].no_images(3)["pixel_values"].shape == (0, 3, 70, 70)


def test_a_size_without_pixel_limits_is_obeyed_as_by_the_later_releases(tmp_path: Path) -> None:
    # The slow processor of transformers 4 overlooks it; its pull request 43095 mends that.
    _, theirs = qwen2(tmp_path, min_pixels=28 * 28 * 6, max_pixels=28 * 28 * 9)
    path = tmp_path / "preprocessor_config.json"
    content = json.loads(path.read_text())
    assert content["size"] == {"shortest_edge": 28 * 28 * 6, "longest_edge": 28 * 28 * 9}
    write_json(path, content | {"min_pixels": None, "max_pixels": None})
    assert_same(Qwen2Images.read(Folder(tmp_path)), theirs, [noise(500, 300), noise(20, 20)])


def test_settings_inside_processor_config_are_found(tmp_path: Path) -> None:
    ours, _ = siglip(tmp_path, image_mean=0.1)
    path = tmp_path / "preprocessor_config.json"
    write_json(
        tmp_path / "processor_config.json", {"image_processor": json.loads(path.read_text())}
    )
    path.unlink()
    again = SiglipImages.read(Folder(tmp_path))
    np.testing.assert_array_equal(again.pixels.table, ours.pixels.table)
    assert again.grid(9, 5, "image") == Grid(5, 5)


def test_what_settings_leave_out_is_what_transformers_takes(tmp_path: Path) -> None:
    write_json(tmp_path / "preprocessor_config.json", {"image_processor_type": "any"})
    assert_same(Qwen2Images.read(Folder(tmp_path)), Qwen2VLImageProcessor(), [noise(300, 200)])
    write_json(tmp_path / "preprocessor_config.json", {"image_seq_length": 256})
    assert_same(SiglipImages.read(Folder(tmp_path)), SiglipImageProcessor(), [noise(300, 200)])


@pytest.mark.parametrize("made", [qwen2, siglip])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"resample": 9}, "resample is 9: Pillow has no such filter"),
        ({"size": 70}, "size is 70: correct it"),
        ({"size": {"height": 70}}, "correct it to"),
        ({"image_mean": [0.5, 0.5]}, "image_mean has 2 numbers"),
        ({"image_std": "wide"}, "image_std is 'wide'"),
    ],
)
def test_settings_that_cannot_be_used_are_told(
    change: dict[str, Any], said: str, made: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    ours, _ = made(tmp_path)
    merge_json(tmp_path / "preprocessor_config.json", change)
    with pytest.raises(InputError, match=said):
        type(ours).read(Folder(tmp_path))


def test_settings_of_one_kind_alone_are_told_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"preprocessor_config.json is missing: copy it"):
        SiglipImages.read(Folder(tmp_path))
    path = tmp_path / "preprocessor_config.json"
    for tokens, said in ((None, "image_seq_length is None"), (24, "24, which is no square")):
        write_json(path, {"image_seq_length": tokens})
        with pytest.raises(InputError, match=said):
            SiglipImages.read(Folder(tmp_path))
    for value in (0, -1, True, "14", 1.5):
        write_json(path, {"patch_size": value})
        with pytest.raises(InputError, match="correct it to a positive integer"):
            Qwen2Images.read(Folder(tmp_path))


def test_an_image_longer_than_200_times_its_width_is_refused_as_by_transformers(
    tmp_path: Path,
) -> None:
    ours, theirs = qwen2(tmp_path)
    assert ours.grid(1000, 5, "image") == Grid(1, 29)
    with pytest.raises(ValueError, match="absolute aspect ratio must be smaller than 200"):
        theirs(images=[noise(1001, 5)])
    with pytest.raises(InputError, match=r"scan\.png is 1001 × 5 pixels, longer than 200 times"):
        ours.grid(1001, 5, "scan.png")
