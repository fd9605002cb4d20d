"""The reference that stands in for PyLate where that cannot be imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreement import TEXTS
from colbert_checkpoints import DenseLayer, build_colbert, build_stanford
from local_models import resolved
from pylate.models import ColBERT

import convert
from retort.arguments import ConversionArguments
from retort.json_files import read_json, write_json
from retort.references.late_interaction import PlainReference


def lowered(folder: Path) -> Path:
    return build_colbert(folder, "modernbert", do_lower_case=True)


def prefix_free(folder: Path) -> Path:
    return build_colbert(folder, "distilbert", query_prefix="", document_prefix="")


def decoder(folder: Path) -> Path:
    """Write a decoder whose tokenizer has an end, and no padding token."""
    build_colbert(folder, "llama", document_length=40)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = read_json(folder / name)
        content["eos_token"] = content.pop("pad_token")
        write_json(folder / name, content)
    return folder


def layered(folder: Path) -> Path:
    dense = [
        DenseLayer(24, bias=True, activation="PReLU", residual=True),
        DenseLayer(24, activation="Tanh", residual=True),
    ]
    return build_colbert(folder, "xlm-roberta", dense=dense)


@pytest.mark.parametrize("build", [layered, lowered, prefix_free, decoder, build_stanford])
def test_the_reference_without_pylate_gives_its_documents(
    build: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = build(tmp_path / "checkpoint")
    plain: Any = PlainReference(resolved(folder), 40)
    model: Any = ColBERT(str(folder), device="cpu")
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        tokens = model.tokenize(TEXTS, is_query=False)
        inputs = plain.tokenize(TEXTS, side)
        assert {name: value.tolist() for name, value in inputs.items()} == {
            name: value.tolist() for name, value in tokens.items()
        }
    options = {"is_query": False, "output_value": None, "batch_size": len(TEXTS)}
    expected = model.encode(TEXTS, convert_to_numpy=False, **options)["token_embeddings"]
    order = np.argsort([-len(text) for text in TEXTS])
    outputs = plain.run(plain.tokenize([TEXTS[index] for index in order], "left"))
    for place, index in enumerate(order):
        np.testing.assert_allclose(outputs["output"][place], expected[index], atol=1e-5)


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make PyLate as absent as where it is not installed."""
    monkeypatch.setitem(sys.modules, "pylate", None)


def break_(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make PyLate as useless as where what it needs is not installed."""
    monkeypatch.delitem(sys.modules, "pylate")
    monkeypatch.setitem(sys.modules, "pylate.models", None)


@pytest.mark.parametrize("make", [hide, break_])
def test_a_conversion_without_pylate_is_validated_and_says_against_what(
    make: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = build_colbert(tmp_path / "checkpoint", "bert")
    make(monkeypatch)
    arguments = ConversionArguments(
        model_id=str(checkpoint), output_dir=str(tmp_path / "out"), optimize=0, quiet=True
    )
    report = convert.convert(arguments).report
    assert report is not None
    assert report.reference.startswith("transformers ")
    assert report.reference.endswith("(PyLate cannot be imported)")
    told = read_json(tmp_path / "out" / "conversion.json")["validation"]
    assert told["reference"] == report.reference
