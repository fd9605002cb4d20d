"""Every architecture's embedding graphs agree with sentence-transformers, in every precision."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from agreement import (
    FLOAT16_COSINE,
    FP32_TOLERANCE,
    LONGEST,
    TEXTS,
    Case,
    cosines,
    difference,
    from_portable,
    largest_difference,
    run_graph,
    sentence_cases,
    sentence_features,
    sentence_transformer,
    session,
)
from converted import Converted, converted, workshop
from tiny_checkpoints import ARCHITECTURES, build_sentence_transformer
from tiny_tokenizers import MAX_LENGTH

from retort.runtime import load

DECODERS = ("llama", "mistral", "qwen3")
# Measured: rounding to 8 bits leaves at least 0.986 of the tiny models' cosines; a wrong mask,
# pooling or token type brings one of these eight texts to 0.90 or less.
LOWEST_8_BIT, MEAN_8_BIT, MEAN_8_BIT_TOKENS = 0.97, 0.99, 0.98

FP32 = ("onnx/model.onnx", "onnx/model_opt1_Float32.onnx")
OUTPUTS = ("last_hidden_state", "sentence_embedding")
every_architecture = pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))


@cache
def embedding(architecture: str) -> Converted:
    checkpoint = build_sentence_transformer(
        workshop() / f"embedding-{architecture}",
        architecture,
        pooling=("lasttoken",) if architecture in DECODERS else ("mean",),
        normalize=False,
        max_seq_length=MAX_LENGTH,
    )
    # Names with a level in them are always made from the optimized graph.
    return converted(checkpoint, quantize=["QInt8", "Float16"], file_naming="opt_level")


def files(architecture: str, precision: str) -> dict[str, Path]:
    """Return the files of a precision: the one made from the optimized graph, and the other."""
    result = embedding(architecture)
    name = f"onnx/model_opt1_{precision}.onnx"
    return {name: result.folder / name, **from_portable(result, precision)}


def cases(architecture: str) -> tuple[Case, ...]:
    return sentence_cases(embedding(architecture).checkpoint)


def test_the_batches_are_padded_on_either_side_and_have_one_token_and_the_most() -> None:
    made = {case.name: case.mask for case in cases("bert")}
    shapes = {name: mask.shape for name, mask in made.items()}
    assert {shape[0] for shape in shapes.values()} == {1, 3, 8}
    assert shapes["length 1"] == (1, 1)
    assert shapes["maximum length"] == (1, MAX_LENGTH)
    assert made["maximum length"].all()
    right, left = made["batch 8, right padding"], made["batch 8, left padding"]
    assert right[:, 0].all()
    assert left[:, -1].all()
    assert (~left[:, 0]).sum() > 3
    assert (right == left[:, ::-1]).all()


@every_architecture
def test_the_fp32_files_give_the_outputs_of_sentence_transformers(architecture: str) -> None:
    folder = embedding(architecture).folder
    for name in FP32:
        assert tuple(value.name for value in session(folder / name).get_outputs()) == OUTPUTS
        worst, where = largest_difference(folder / name, cases(architecture))
        assert worst <= FP32_TOLERANCE, f"{name}: {where}"


@every_architecture
def test_the_float16_files_keep_every_vector(architecture: str) -> None:
    for name, path in files(architecture, "Float16").items():
        for output in OUTPUTS:
            lowest = cosines(path, cases(architecture), output).min()
            assert lowest >= FLOAT16_COSINE, f"{name}: {output}"


@every_architecture
def test_the_8_bit_files_keep_every_text_in_its_place(architecture: str) -> None:
    for name, path in files(architecture, "QInt8").items():
        texts = cosines(path, cases(architecture), "sentence_embedding")
        tokens = cosines(path, cases(architecture), "last_hidden_state")
        assert texts.min() > LOWEST_8_BIT, name
        assert texts.mean() > MEAN_8_BIT, name
        assert tokens.mean() > MEAN_8_BIT_TOKENS, name


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_decoder_gives_one_vector_for_a_text_whichever_side_is_padded(architecture: str) -> None:
    result = embedding(architecture)
    model = sentence_transformer(result.checkpoint)
    right, left = (sentence_features(model, TEXTS, side) for side in ("right", "left"))
    assert (right["attention_mask"] != left["attention_mask"]).any()
    for name in FP32:
        path = result.folder / name
        vectors = [run_graph(path, side)["sentence_embedding"] for side in (right, left)]
        assert difference(*vectors, np.ones(len(TEXTS), bool)) <= FP32_TOLERANCE


@every_architecture
def test_the_runtime_encodes_as_sentence_transformers_does(architecture: str) -> None:
    result = embedding(architecture)
    texts = [*TEXTS, LONGEST]
    expected = sentence_transformer(result.checkpoint).encode(texts, batch_size=4)
    for name in FP32:
        vectors = load(result.folder, name).encode(texts, batch_size=4)
        np.testing.assert_allclose(vectors, expected, atol=FP32_TOLERANCE)


@every_architecture
def test_a_batch_does_not_change_a_text_s_vector(architecture: str) -> None:
    result = embedding(architecture)
    model = sentence_transformer(result.checkpoint)
    path = result.folder / FP32[1]
    short = TEXTS[1]
    alone = run_graph(path, sentence_features(model, [short], "right"))
    beside = run_graph(path, sentence_features(model, [short, LONGEST], "right"))
    first = beside["sentence_embedding"][:1]
    assert difference(alone["sentence_embedding"], first, np.ones(1, bool)) <= FP32_TOLERANCE
