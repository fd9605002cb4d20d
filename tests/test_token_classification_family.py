"""Every encoder's token classification graphs agree with transformers, and carry their labels."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from agreement import (
    FLOAT16_COSINE,
    FP32_TOLERANCE,
    cosines,
    largest_difference,
    session,
    tagger_cases,
)
from converted import Converted, change_json, converted, workshop
from tiny_checkpoints import ARCHITECTURES, LABELS, build_token_classifier

from retort.errors import InputError
from retort.runtime import load

DECODERS = {"llama", "mistral", "qwen3"}
# Measured: rounding to 8 bits leaves at least 0.985 on average, wrong inputs 0.90 or less.
MEAN_8_BIT = 0.97
ENCODERS = sorted(set(ARCHITECTURES) - DECODERS)
ID2LABEL = {str(index): label for index, label in enumerate(LABELS)}
LABEL2ID = {label: index for index, label in enumerate(LABELS)}
every_encoder = pytest.mark.parametrize("architecture", ENCODERS)


@cache
def tagger(architecture: str) -> Converted:
    checkpoint = build_token_classifier(workshop() / f"tagger-{architecture}", architecture)
    return converted(checkpoint, quantize=["QUInt8", "Float16"], file_naming="opt_level")


def labels_of(result: Converted) -> tuple[object, ...]:
    """Return the label tables as all files of a folder say them."""
    config = result.json("config.json")
    return (
        config["id2label"],
        config["label2id"],
        result.json("id2label.json"),
        result.json("label2id.json"),
    )


@every_encoder
def test_the_fp32_files_give_the_logits_of_transformers(architecture: str) -> None:
    result = tagger(architecture)
    for name in ("onnx/model.onnx", "onnx/model_opt1_Float32.onnx"):
        path = result.folder / name
        assert [value.name for value in session(path).get_outputs()] == ["logits"]
        worst, where = largest_difference(path, tagger_cases(result.checkpoint))
        assert worst <= FP32_TOLERANCE, f"{name}: {where}"


@every_encoder
def test_the_float16_file_keeps_every_token_s_logits(architecture: str) -> None:
    result = tagger(architecture)
    path = result.folder / "onnx" / "model_opt1_Float16.onnx"
    assert cosines(path, tagger_cases(result.checkpoint), "logits").min() >= FLOAT16_COSINE


@every_encoder
def test_the_8_bit_file_keeps_the_logits(architecture: str) -> None:
    result = tagger(architecture)
    path = result.folder / "onnx" / "model_opt1_QUInt8.onnx"
    assert cosines(path, tagger_cases(result.checkpoint), "logits").mean() >= MEAN_8_BIT


def test_the_labels_are_in_the_configuration_and_in_two_files_of_their_own() -> None:
    assert labels_of(tagger("bert")) == (ID2LABEL, LABEL2ID, ID2LABEL, LABEL2ID)


def test_the_runtime_names_tags_by_the_labels() -> None:
    tags = {tag for _, tag in load(tagger("bert").folder).tags("from Delhi to Agra by bus, today")}
    assert tags <= set(LABELS)
    assert len(tags) > 1


def unnamed_labels(folder: Path) -> Path:
    """Take the labels out of a checkpoint's configuration, as transformers numbers them."""
    build_token_classifier(folder, "bert")
    numbered = {index: f"LABEL_{index}" for index in range(len(LABELS))}
    inverse = {label: index for index, label in numbered.items()}
    change_json(folder / "config.json", id2label=numbered, label2id=inverse)
    return folder


@pytest.mark.parametrize(
    ("file", "content"), [("label2id.json", LABEL2ID), ("id2label.json", ID2LABEL)]
)
def test_labels_that_stand_in_a_file_alone_are_found(
    file: str, content: dict[str, object], tmp_path: Path
) -> None:
    folder = unnamed_labels(tmp_path / "tagger")
    (folder / file).write_text(json.dumps(content), encoding="utf-8")
    result = converted(folder, optimize=0)
    assert labels_of(result) == (ID2LABEL, LABEL2ID, ID2LABEL, LABEL2ID)


def test_a_pooling_makes_no_sense_for_a_tagger(tmp_path: Path) -> None:
    folder = build_token_classifier(tmp_path / "tagger", "bert")
    with pytest.raises(InputError, match="--pooling is for embedding"):
        converted(folder, pooling="mean")
