"""Float16 files stay right where float16 ends: long positions, large sums, padding."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import (
    FLOAT16_COSINE,
    Tensors,
    cosine,
    run_graph,
    sentence_outputs,
    sentence_transformer,
)
from converted import Converted, converted, workshop
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tiny_checkpoints import HIDDEN_SIZE, POOLING_FLAGS, build_encoder, randomize
from transformers import AutoConfig, AutoModel

POSITIONS = 4096
# Float16 has no odd integer beyond 2048, and no number beyond 65504.
LENGTH = 3000
LAST = 100
POOLINGS = ("weightedmean", "lasttoken")
# Relative positions in buckets, and positions as angles.
ARCHITECTURES = ("llama", "modernbert", "mpnet")
FILE = "onnx/model_opt1_Float16.onnx"
long_models = pytest.mark.parametrize("architecture", ARCHITECTURES)


def long_checkpoint(folder: Path, architecture: str) -> Path:
    """Write a tiny model that takes thousands of tokens, pooled where positions matter."""
    backbone = build_encoder(folder / "backbone", architecture)
    config = AutoConfig.from_pretrained(backbone)
    config.max_position_embeddings = POSITIONS
    model = AutoModel.from_config(config)
    randomize(model, seed=0)
    model.save_pretrained(backbone)
    flags = {flag: mode in POOLINGS for mode, flag in POOLING_FLAGS.items()}
    modules = [Transformer(str(backbone)), Pooling(HIDDEN_SIZE, **flags)]
    checkpoint = folder / "checkpoint"
    SentenceTransformer(modules=modules, device="cpu").save(
        str(checkpoint), create_model_card=False
    )
    return checkpoint


@cache
def long_model(architecture: str) -> Converted:
    checkpoint = long_checkpoint(workshop() / f"long-{architecture}", architecture)
    return converted(checkpoint, quantize=["Float16"], file_naming="opt_level")


def long_inputs(architecture: str) -> Tensors:
    """Return one row of 3000 tokens, and one of half as many behind padding."""
    config = AutoConfig.from_pretrained(long_model(architecture).checkpoint)
    tokens = np.random.default_rng(0).integers(10, config.vocab_size, (2, LENGTH))
    mask = np.ones_like(tokens)
    mask[1, : LENGTH // 2] = 0
    tokens[mask == 0] = config.pad_token_id
    return {"input_ids": tokens, "attention_mask": mask}


@cache
def expected_and_actual(architecture: str) -> tuple[Tensors, Tensors]:
    result = long_model(architecture)
    inputs = long_inputs(architecture)
    expected = sentence_outputs(sentence_transformer(result.checkpoint), inputs)
    return expected, run_graph(result.folder / FILE, inputs)


@long_models
def test_the_last_of_three_thousand_tokens_are_right(architecture: str) -> None:
    expected, actual = (values["last_hidden_state"] for values in expected_and_actual(architecture))
    assert expected.shape == (2, LENGTH, HIDDEN_SIZE)
    assert cosine(expected[:, -LAST:], actual[:, -LAST:]).min() >= FLOAT16_COSINE


@long_models
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_pooling_that_counts_positions_is_right(architecture: str, pooling: str) -> None:
    expected, actual = (
        values["sentence_embedding"] for values in expected_and_actual(architecture)
    )
    first = POOLINGS.index(pooling) * HIDDEN_SIZE
    columns = slice(first, first + HIDDEN_SIZE)
    assert expected.shape == (2, len(POOLINGS) * HIDDEN_SIZE)
    assert cosine(expected[:, columns], actual[:, columns]).min() >= FLOAT16_COSINE


@long_models
def test_there_is_no_infinity_and_every_value_is_a_number(architecture: str) -> None:
    _, actual = expected_and_actual(architecture)
    assert all(np.isfinite(values).all() for values in actual.values())


@long_models
def test_weights_are_halved_and_inputs_and_outputs_stay_as_they_were(architecture: str) -> None:
    result = long_model(architecture)
    half, full = result.graph(FILE), result.graph("onnx/model.onnx")
    matrices = [i for i in half.graph.initializer if len(i.dims) == 2 and min(i.dims) > 1]
    assert matrices
    assert {i.data_type for i in matrices} == {onnx.TensorProto.FLOAT16}
    for old, new in ((full.graph.input, half.graph.input), (full.graph.output, half.graph.output)):
        assert [value.name for value in old] == [value.name for value in new]
        assert [value.type.tensor_type.elem_type for value in old] == [
            value.type.tensor_type.elem_type for value in new
        ]


@long_models
def test_no_fp32_value_is_rounded_on_its_way_out_and_no_cast_is_left_unused(
    architecture: str,
) -> None:
    graph = long_model(architecture).graph(FILE).graph
    producers = {name: node for node in graph.node for name in node.output}
    (out,) = (value for value in graph.output if value.name == "sentence_embedding")
    node = producers[out.name]
    while node.op_type == "Cast":
        assert all(a.i != onnx.TensorProto.FLOAT16 for a in node.attribute)
        node = producers[node.input[0]]
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    assert [node.name for node in graph.node if not used & set(node.output)] == []
