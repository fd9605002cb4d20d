"""What follows a backbone in ``modules.json`` is in the graph, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from agreement import (
    FLOAT16_COSINE,
    FP32_TOLERANCE,
    LONGEST,
    TEXTS,
    cosines,
    largest_difference,
    sentence_cases,
    sentence_transformer,
)
from converted import Converted, converted, workshop
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Dropout, LayerNorm, Normalize, Pooling, Transformer
from tiny_checkpoints import HIDDEN_SIZE, POOLING_FLAGS, build_encoder, randomize
from torch import nn

from retort.errors import InputError
from retort.runtime import load

# Rounding to 8 bits leaves at least 0.98 here too; the wrong pooling gives 0.9 or less.
LOWEST_8_BIT = 0.95
ALL_MODES = tuple(POOLING_FLAGS)
POOLINGS: Mapping[str, tuple[str, ...]] = {mode: (mode,) for mode in ALL_MODES} | {
    "cls and mean": ("cls", "mean"),
    "max, weightedmean and lasttoken": ("max", "weightedmean", "lasttoken"),
    "all": ALL_MODES,
}
HEADS: Mapping[str, tuple[nn.Module, ...]] = {
    "dense layers with and without bias": (
        Dense(HIDDEN_SIZE, 24, activation_function=nn.Tanh()),
        Dense(24, 20, bias=False, activation_function=nn.GELU()),
        Dense(20, 16, bias=False, activation_function=nn.Identity()),
    ),
    "dense layers with other activations": (
        Dense(HIDDEN_SIZE, 24, activation_function=nn.SiLU()),
        Dense(24, 20, activation_function=nn.LeakyReLU()),
        Dense(20, 12, activation_function=nn.Sigmoid()),
    ),
    "layer norm and dropout": (LayerNorm(HIDDEN_SIZE), Dropout(0.5)),
    "everything": (
        Dropout(0.2),
        Dense(HIDDEN_SIZE, 24, activation_function=nn.ReLU()),
        LayerNorm(24),
        Dense(24, 16, activation_function=nn.Identity()),
        Normalize(),
    ),
}


def sentence_checkpoint(name: str, modes: tuple[str, ...], *head: nn.Module) -> Path:
    """Write a tiny BERT with poolings and a head, as sentence-transformers saves it."""
    folder = workshop() / name.replace(" ", "-")
    transformer = Transformer(str(build_encoder(folder / "backbone", "bert")), max_seq_length=48)
    flags = {flag: mode in modes for mode, flag in POOLING_FLAGS.items()}
    for seed, module in enumerate(head):
        randomize(module, seed)
    model = SentenceTransformer(
        modules=[transformer, Pooling(HIDDEN_SIZE, **flags), *head], device="cpu"
    )
    model.save(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"


@cache
def pooled(name: str) -> Converted:
    checkpoint = sentence_checkpoint(f"pooling {name}", POOLINGS[name])
    return converted(checkpoint, quantize=["QInt8", "Float16"], file_naming="opt_level")


@cache
def headed(name: str) -> Converted:
    return converted(sentence_checkpoint(f"head {name}", ("mean",), *HEADS[name]))


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_and_several_side_by_side_are_those_of_sentence_transformers(
    name: str,
) -> None:
    result = pooled(name)
    cases = sentence_cases(result.checkpoint)
    assert cases[0].expected["sentence_embedding"].shape[1] == HIDDEN_SIZE * len(POOLINGS[name])
    for file in ("onnx/model.onnx", "onnx/model_opt1_Float32.onnx"):
        worst, where = largest_difference(result.folder / file, cases)
        assert worst <= FP32_TOLERANCE, f"{file}: {where}"


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooling_stays_right_in_16_and_8_bits(name: str) -> None:
    result = pooled(name)
    cases = sentence_cases(result.checkpoint)
    for precision, lowest in {"Float16": FLOAT16_COSINE, "QInt8": LOWEST_8_BIT}.items():
        path = result.folder / f"onnx/model_opt1_{precision}.onnx"
        assert cosines(path, cases, "sentence_embedding").min() >= lowest


@pytest.mark.parametrize("name", HEADS)
def test_the_layers_after_the_pooling_are_in_the_graph(name: str) -> None:
    result = headed(name)
    for file in result.graphs:
        worst, where = largest_difference(result.folder / file, sentence_cases(result.checkpoint))
        assert worst <= FP32_TOLERANCE, f"{file}: {where}"


@pytest.mark.parametrize("name", HEADS)
def test_the_runtime_gives_the_vectors_of_a_head(name: str) -> None:
    result = headed(name)
    texts = [*TEXTS, LONGEST]
    expected = sentence_transformer(result.checkpoint).encode(texts)
    np.testing.assert_allclose(load(result.folder).encode(texts), expected, atol=FP32_TOLERANCE)


def test_an_unknown_module_is_refused_by_its_name() -> None:
    checkpoint = sentence_checkpoint("unknown module", ("mean",))
    modules = (checkpoint / "modules.json").read_text(encoding="utf-8")
    changed = modules.replace("models.Pooling", "models.WeightedLayerPooling")
    assert changed != modules
    (checkpoint / "modules.json").write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=r"modules\.json.*WeightedLayerPooling"):
        converted(checkpoint, family="embedding")


def test_an_activation_that_is_not_of_torch_is_refused() -> None:
    checkpoint = sentence_checkpoint("odd activation", ("mean",), Dense(HIDDEN_SIZE, 8))
    path = checkpoint / "2_Dense" / "config.json"
    changed = path.read_text(encoding="utf-8").replace(
        "torch.nn.modules.activation.Tanh", "os.kill"
    )
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=r"2_Dense/config\.json: os\.kill is not an activation"):
        converted(checkpoint)


def test_a_pooling_that_is_in_the_checkpoint_already_is_not_asked_for_again() -> None:
    checkpoint = sentence_checkpoint("two poolings", ("mean",))
    with pytest.raises(InputError, match="brings its own pooling"):
        converted(checkpoint, pooling="cls")
