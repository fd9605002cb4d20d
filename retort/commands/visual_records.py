"""Queries and pages as ``retort encode`` encodes, prints and draws them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from retort.commands.scores import scores_record
from retort.errors import InputError
from retort.runtime import VisualModel
from retort.runtime.images import pillow

Records = list[Mapping[str, Any]]
Arrays = dict[str, npt.NDArray[Any]]


def visual_results(model: VisualModel, options: argparse.Namespace) -> tuple[Records, Arrays]:
    """Return what is printed and what is saved of queries and images, and draw the heatmap.

    Args:
        model: Encodes them.
        options: Of them ``query``, ``image``, ``heatmap``, ``batch_size``, ``image_batch_size``.

    Raises:
        InputError: An image or an option cannot be used.
    """
    queries, images, heatmap = options.query, options.image, options.heatmap
    if not (queries or images):
        raise InputError("nothing to encode; give --query or --image")
    if heatmap is not None:
        _check_heatmap(heatmap, queries, images)
    texts = model.encode_queries(queries, batch_size=options.batch_size)
    pages = model.encode_images(images, batch_size=options.image_batch_size) if images else []
    records: Records = [
        *(
            {"kind": "query", "text": text, "shape": list(tokens.shape)}
            for text, tokens in zip(queries, texts, strict=True)
        ),
        *(
            {"kind": "image", "path": path, "shape": list(tokens.shape)}
            for path, tokens in zip(images, pages, strict=True)
        ),
    ]
    arrays: Arrays = {f"query_{index}": tokens for index, tokens in enumerate(texts)}
    arrays |= {f"image_{index}": tokens for index, tokens in enumerate(pages)}
    if heatmap is not None:
        drawn = model.heatmap(queries[0], images[0], query=texts[0], page=pages[0])
        _save(drawn, heatmap)
    if queries and images:
        arrays["scores"] = model.score(texts, pages)
        records.append(scores_record(queries, images, arrays["scores"]))
    if heatmap is not None:
        records.append({"heatmap": str(heatmap)})
    return records, arrays


def _check_heatmap(path: Path, queries: Sequence[str], images: Sequence[str]) -> None:
    """Refuse before the work what could not be drawn after it."""
    if len(queries) != 1 or len(images) != 1:
        raise InputError("--heatmap is for one query over one image; give one of each")
    formats = pillow().registered_extensions()
    if formats.get(path.suffix.lower()) not in pillow().SAVE:
        raise InputError(f"--heatmap {path} names no format of images; call it {path.stem}.png")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--heatmap {path}: its folder does not exist; make it")
    if path.exists() and Path(images[0]).exists() and path.samefile(images[0]):
        raise InputError(f"--heatmap {path} would replace the image; give another name")


def _save(drawn: Any, path: Path) -> None:
    try:
        drawn.save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"--heatmap {path} cannot be written ({error})") from error
