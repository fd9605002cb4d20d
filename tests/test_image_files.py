"""Image files: what cannot be read is told in one line, and what is opened is closed."""

from __future__ import annotations

import gc
import logging
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import Qwen2VLImageProcessor
from visual_images import noise, odd_images

from retort.errors import InputError
from retort.runtime.images import image_size, load_image


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG that claims to have these sides."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10) + b"IDAT" + bytes(14)


def complaint(read: Callable[[Any, str], object], image: object, name: str) -> str:
    """Return the one line that an image is refused with."""
    with pytest.raises(InputError) as caught:
        read(image, name)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("read", [image_size, load_image])
def test_what_is_no_image_is_told_in_one_line(
    read: Callable[[Any, str], object], tmp_path: Path
) -> None:
    for content, said in (
        (b"", "is empty: give a file that holds an image"),
        (b"%PDF-1.7 text", "cannot be read as an image (cannot identify image file"),
        (png_header(40_000, 40_000), "is too large (Image size (1600000000 pixels) exceeds"),
        (png_header(0, 7), "cannot be read as an image"),
    ):
        path = tmp_path / "page.png"
        path.write_bytes(content)
        assert said in complaint(read, path, str(path))
    missing = tmp_path / "none.png"
    assert complaint(read, missing, "none.png").startswith("none.png is no file: give the path")
    assert "is no file" in complaint(read, tmp_path, "a folder")
    assert complaint(read, 3, "image 0") == "image 0: give a path or a PIL image, not int"


def test_an_image_of_no_pixels_is_told() -> None:
    for size in ((0, 5), (5, 0), (0, 0)):
        said = complaint(image_size, Image.new("RGB", size), "image 4")
        assert said == f"image 4 is {size[0]} × {size[1]} pixels: give an image that shows some"


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp"])
def test_a_damaged_file_is_told_wherever_it_ends(suffix: str, tmp_path: Path) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    noise(50, 40).save(whole)
    content = whole.read_bytes()
    for length in range(1, len(content) // 2, max(1, len(content) // 40)):
        path.write_bytes(content[:length])
        assert "cannot be read as an image" in complaint(load_image, path, "cut")


def test_levels_that_are_clipped_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "retort"):
        load_image(noise(5, 5), "plain")
        load_image(odd_images()["16-bit grey"], "deep.png")
    assert [record.getMessage() for record in caplog.records] == [
        "deep.png: its I;16 pixels are clipped to 8 bits"
    ]


def test_files_are_closed_whether_they_can_be_read_or_not(tmp_path: Path) -> None:
    good, cut = tmp_path / "good.png", tmp_path / "cut.png"
    noise(50, 40).save(good)
    cut.write_bytes(good.read_bytes()[:200])
    opened = Path("/proc/self/fd")
    gc.collect()
    before = len(list(opened.iterdir()))
    gc.disable()
    try:
        pages = [load_image(good, "good") for _ in range(5)]
        complaint(load_image, cut, "cut")
        assert image_size(good, "good") == pages[0].size
        assert len(list(opened.iterdir())) == before
    finally:
        gc.enable()


def test_without_pillow_images_are_refused_and_settings_still_read(tmp_path: Path) -> None:
    Qwen2VLImageProcessor().save_pretrained(tmp_path)
    script = (
        "import sys; sys.modules['PIL'] = None\n"
        "from pathlib import Path\n"
        "from retort.errors import InputError\n"
        "from retort.runtime.folder import Folder\n"
        "from retort.runtime.images import load_image\n"
        "from retort.runtime.qwen2_images import Qwen2Images\n"
        "Qwen2Images.read(Folder(Path(sys.argv[1])))\n"
        "try: load_image('a.png', 'a.png')\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout == "images need Pillow, which is missing: pip install pillow\n"
