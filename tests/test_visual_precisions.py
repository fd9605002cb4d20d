"""Every precision of ColQwen2 and ColPali, through the If around the vision tower."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import cosine
from cards import card_of, code_in, front_matter_of
from converted import Converted, converted, workshop
from local_models import resolved
from onnx import TensorProto
from safetensors.torch import load_file, save_file
from visual_images import noise, translucent
from visual_references import (
    FAMILIES,
    QUERIES,
    VARIANTS,
    Array,
    Theirs,
    checkpoint_of,
    opened,
    pair,
    theirs,
)

from onnx_configs import families
from onnx_configs.base import TEXT_INPUTS
from retort.card.facts import MODEL, GraphFile
from retort.graphs.onnx_file import graphs_of, nodes_of

FILES = {
    "QInt8": "onnx/model_quantized.onnx",
    "QUInt8": "onnx/model_uint8.onnx",
    "Float16": "onnx/model_fp16.onnx",
    "Q8": "onnx/model_q8.onnx",
    "Q4": "onnx/model_q4.onnx",
    "Q4F16": "onnx/model_q4f16.onnx",
    "BNB4": "onnx/model_bnb4.onnx",
}
# The mean over real tokens. Random models lose much at 4 bits; a wrong layout leaves nothing.
LOWEST = {"QInt8": 0.99, "QUInt8": 0.99, "Float16": 0.99999, "Q8": 0.999}
LOWEST_4_BIT = 0.8
PAGES = [noise(61, 97), translucent(83, 59), noise(160, 40).convert("L"), noise(28, 28)]
OUTSIDE = {"QInt8": "MatMulInteger", "Q4": "MatMulNBits"}


@cache
def small(family: str) -> Converted:
    """Return a checkpoint in every precision, of 7 bits where processors might saturate."""
    # A copy: the training of a tokenizer may end in another one the second time.
    checkpoint = Path(shutil.copytree(checkpoint_of(family), workshop() / f"small-{family}"))
    return converted(checkpoint, optimize=0, quantize=list(FILES), reduce_range=True)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def token_cosines(path: Path, untouched: Theirs) -> Array:
    """Return the cosine of each token of queries and images to transformers'."""
    model = opened(path.parent.parent, f"onnx/{path.name}")
    pairs = [
        (model.encode_queries(QUERIES), untouched.queries(QUERIES)),
        (model.encode_images(PAGES), untouched.images(PAGES)),
    ]
    found = [cosine(np.concatenate(ours), np.concatenate(other)) for ours, other in pairs]
    return np.concatenate(found)


@pytest.mark.parametrize("precision", FILES)
def test_every_precision_keeps_the_tokens_of_texts_and_of_images(
    precision: str, family: str
) -> None:
    found = token_cosines(small(family).folder / FILES[precision], theirs(family))
    assert found.mean() >= LOWEST.get(precision, LOWEST_4_BIT)
    assert precision != "Float16" or found.min() >= 0.9999


@pytest.mark.parametrize("precision", FILES)
def test_no_large_fp32_matrix_is_left_inside_or_outside_the_if(precision: str, family: str) -> None:
    model = small(family).graph(FILES[precision])
    tensors = [t for part in graphs_of(model.graph) for t in part.initializer]
    # A convolution and its positions are no products of a matrix.
    left = [
        tensor.name
        for tensor in tensors
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and min(tensor.dims) >= 16
        and not {"position", "scales"} & set(tensor.name.replace(".", "_").split("_"))
    ]
    assert len(left) == (precision == "Float16")  # the last projection


@pytest.mark.parametrize("precision", OUTSIDE)
def test_products_inside_the_if_are_quantized_with_weights_outside(
    precision: str, family: str
) -> None:
    graph = small(family).graph(FILES[precision]).graph
    (choice,) = (node for node in graph.node if node.op_type == "If")
    outside = {tensor.name for tensor in graph.initializer}
    inner = [node for attribute in choice.attribute for node in nodes_of(attribute.g)]
    products = [node for node in inner if node.op_type == OUTSIDE[precision]]
    assert len(products) >= 10
    assert all(node.input[1] in outside for node in products)


def test_in_8_bits_no_text_feels_what_else_is_in_its_batch(family: str) -> None:
    model = opened(small(family).folder, FILES["QUInt8"])
    text, mate = QUERIES[0], QUERIES[-1]
    # As many tokens in another order: the shapes stay, so no sum is taken in another order.
    other_mate = " ".join(reversed(mate.split()))
    (first, its_mate), (second, other) = (
        model.encode_queries([text, words]) for words in (mate, other_mate)
    )
    assert its_mate.shape == other.shape
    assert not np.array_equal(its_mate, other)
    assert np.array_equal(first, second)


def test_rotary_angles_stay_exact_in_float16(family: str) -> None:
    graph = small(family).graph(FILES["Float16"]).graph
    makers = {output: node for node in nodes_of(graph) for output in node.output}
    turns = [node for node in nodes_of(graph) if node.op_type in {"Sin", "Cos"}]
    assert turns
    for node in turns:
        maker = makers[node.input[0]]
        assert not any(a.i == TensorProto.FLOAT16 for a in maker.attribute if a.name == "to")


def test_float16_is_right_where_the_vision_tower_has_values_beyond_it(tmp_path: Path) -> None:
    checkpoint = VARIANTS["colqwen2"](tmp_path / "checkpoint")
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    for name in weights:
        if "visual" in name and name.endswith("mlp.fc2.weight"):
            weights[name] *= 1e5
    save_file(weights, path, metadata={"format": "pt"})
    result = converted(checkpoint, optimize=0, quantize=["Float16"])
    step = result.json("conversion.json")["files"][FILES["Float16"]]["steps"]
    (made,) = (one for one in step if one["name"] == "quantize")
    assert made["settings"]["large_values"] > 0
    assert token_cosines(result.folder / FILES["Float16"], Theirs.opened(checkpoint)).min() > 0.9999


def test_every_file_has_a_header_that_old_runtimes_read(family: str) -> None:
    for name in FILES.values():
        model = small(family).graph(name)
        assert model.ir_version <= 9
        used = {node.domain for node in nodes_of(model.graph)} | {""}
        assert {opset.domain for opset in model.opset_import} == used
        assert max(opset.version for opset in model.opset_import) <= 20
        assert onnx.helper.printable_type(model.graph.output[0].type).startswith("FLOAT,")


def test_the_code_of_a_card_runs_as_it_stands(
    family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    card = card_of(small(family))
    assert front_matter_of(card)["pipeline_tag"] == "visual-document-retrieval"
    programs = code_in(card)
    assert {name.partition(",")[0] for name in programs} == {
        "Retort's runtime",
        "onnxruntime alone",
    }
    for name, program in programs.items():
        exec(program.replace("path/to/this-folder", str(small(family).folder)), {})
        assert capsys.readouterr().out.strip(), name


def test_the_card_of_a_text_graph_shows_no_images_and_its_code_runs(
    family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = GraphFile("onnx/text_model.onnx", "fp32", TEXT_INPUTS[:2], ("embeddings",))
    checkpoint = resolved(checkpoint_of(family))
    for usage in families()[family].card(checkpoint, [graph]).usages:
        assert not any(word in usage.code for word in ("image", "pixel", "PIL"))
        exec(usage.code.replace(MODEL, str(pair(family).folder)), {})
        assert capsys.readouterr().out.strip(), usage.consumer


def test_8_bits_load_with_the_axes_of_old_operator_sets(family: str, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(checkpoint_of(family), tmp_path / "checkpoint"))
    old = converted(checkpoint, optimize=0, opset=16, quantize=["QUInt8"]).folder
    found = token_cosines(old / FILES["QInt8"], theirs(family))
    assert found.mean() >= LOWEST["QUInt8"]
