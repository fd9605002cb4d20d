"""Images as the slow processors of transformers read them, with Pillow, which is loaded lazily."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from retort.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image

logger = logging.getLogger(__name__)


def pillow() -> ModuleType:
    """Return ``PIL.Image``.

    Raises:
        InputError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError("images need Pillow, which is missing: pip install pillow") from error
    return Image


def is_image(value: object) -> bool:
    """Return whether this is one image: a path or a PIL image.

    Raises:
        InputError: Pillow is not installed.
    """
    return isinstance(value, str | os.PathLike | pillow().Image)


def image_list(images: object) -> list[Any]:
    """Return several images as a list.

    Raises:
        InputError: They are no sequence.
    """
    if isinstance(images, bytes) or not isinstance(images, Iterable):
        raise InputError(f"give a path, a PIL image or several, not {type(images).__name__}")
    return list(images)


def image_name(image: object, index: int) -> str:
    """Return what a message calls an image: its path, else its place."""
    return str(image) if isinstance(image, str | os.PathLike) else f"image {index}"


def image_size(image: object, name: str) -> tuple[int, int]:
    """Return the width and height of an image, of a file without decoding it.

    A file's EXIF orientation is left aside, which may exchange the two.

    Raises:
        InputError: There is no image to be read.
    """
    pil = pillow()
    if isinstance(image, pil.Image):
        size: tuple[int, int] = image.size
    else:
        path = _path(image, name)
        try:
            with pil.open(path) as opened:
                size = opened.size
        except Exception as error:  # see _refuse
            _refuse(name, path, error)
    if 0 in size:
        raise InputError(f"{name} is {size[0]} × {size[1]} pixels: give an image that shows some")
    return size


def load_image(image: object, name: str) -> Image.Image:
    """Return an image in RGB, fully read.

    A file is turned as its EXIF orientation says, as by transformers' ``load_image``; a PIL image
    is taken as it is, as by its processors.

    Raises:
        InputError: There is no image to be read.
    """
    pil = pillow()
    from PIL import ImageOps

    path = None if isinstance(image, pil.Image) else _path(image, name)
    try:
        if path is None:
            return _rgb(image, name)
        with pil.open(path) as opened:
            return _rgb(ImageOps.exif_transpose(opened), name)
    except Exception as error:  # see _refuse
        _refuse(name, path, error)


def _rgb(image: Any, name: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        logger.warning("%s: its %s pixels are clipped to 8 bits", name, image.mode)
    return image.convert("RGB")


def _path(image: object, name: str) -> Path:
    if not isinstance(image, str | os.PathLike):
        raise InputError(f"{name}: give a path or a PIL image, not {type(image).__name__}")
    return Path(image)


def _refuse(name: str, path: Path | None, error: Exception) -> NoReturn:
    """Raise the one error of an image that Pillow cannot read.

    Damaged files make its decoders raise OSError, ValueError, SyntaxError, RuntimeError and
    TypeError; and Pillow's error for a decompression bomb is no kind of these.
    """
    if isinstance(error, pillow().DecompressionBombError):
        raise InputError(f"{name} is too large ({_told(error)}): make it smaller") from error
    if path is not None and not path.is_file():
        raise InputError(f"{name} is no file: give the path of an image") from error
    if path is not None and path.stat().st_size == 0:
        raise InputError(f"{name} is empty: give a file that holds an image") from error
    raise InputError(
        f"{name} cannot be read as an image ({_told(error)}): save it again"
    ) from error


def _told(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
