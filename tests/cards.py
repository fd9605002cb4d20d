"""Model cards of converted folders, and of folders made to be told about otherwise."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from colbert_checkpoints import build_colbert
from converted import Converted, change_json, converted, tagger, workshop
from tiny_checkpoints import build_encoder

from onnx_configs import choose_family
from retort.arguments import ConversionArguments
from retort.card.model_card import write_card
from retort.stages.resolve import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FROM_HUB = {"model_id": "org/model", "commit": COMMIT, "from_hub": True}


@cache
def colbert() -> Converted:
    """Return a ColBERT with the settings of the one that fastembed knows."""
    checkpoint = build_colbert(
        workshop() / "colbert-of-fastembed",
        "bert",
        query_prefix="[UNK]",
        document_prefix="[CLS]",
        query_length=32,
        document_length=60,
    )
    return converted(checkpoint, optimize=0, quantize=["QInt8"])


@cache
def backbone() -> Converted:
    """Return an embedding model without a pooling."""
    return converted(build_encoder(workshop() / "backbone", "bert"), optimize=0)


@cache
def in_the_root() -> Converted:
    """Return a token classifier whose graphs stand beside its configuration."""
    return Converted(
        tagger().checkpoint,
        converted(
            tagger().checkpoint, output_dir=str(workshop() / "root"), layout="root", optimize=0
        ).folder,
    )


def card_of(conversion: Converted) -> str:
    """Return README.md of a converted folder."""
    return (conversion.folder / "README.md").read_text(encoding="utf-8")


def front_matter_of(card: str) -> dict[str, Any]:
    """Return what is above the text of a card."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found
    return dict(yaml.safe_load(found[1]))


def code_in(card: str) -> dict[str, str]:
    """Return the Python code by the headings that it stands under."""
    parts = re.split(r"\n### (.*)\n", card)
    found = {
        heading: re.search(r"```python\n(.*?)```", text, re.DOTALL)
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {heading: code[1] for heading, code in found.items() if code}


def rewritten(folder: Path, readme: bytes | None = None, sample: str = "", **record: Any) -> str:
    """Return the tagger's card, written anew for another source.

    Args:
        folder: Where to copy the tagger to.
        readme: README.md of the source; None: it has none.
        sample: Its ``verify_texts.txt``.
        **record: What is different in ``conversion.json``.
    """
    checkpoint, copy = folder / "checkpoint", folder / "folder"
    shutil.copytree(tagger().checkpoint, checkpoint)
    shutil.copytree(tagger().folder, copy)
    for licence in (*checkpoint.glob("license*"), *copy.glob("license*")):
        licence.unlink()
    if readme is not None:
        (checkpoint / "README.md").write_bytes(readme)
    (checkpoint / "verify_texts.txt").write_text(sample, encoding="utf-8")
    change_json(copy / "conversion.json", **record)
    arguments = ConversionArguments(model_id=str(checkpoint))
    source = resolve(arguments, with_weights=False, progress=False)
    write_card(copy, source, choose_family(source, arguments))
    return (copy / "README.md").read_text(encoding="utf-8")
