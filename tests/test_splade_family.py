"""SPLADE graphs agree with SparseEncoder, in every file, and with Anserini for one text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import FLOAT16_COSINE, FP32_TOLERANCE, cosine, from_portable, run_graph
from converted import Converted, converted, workshop
from shared_data import SHARED_DATA
from splade_references import (
    ALL_OUTPUTS,
    COUNTED,
    FP32_FILES,
    Activation,
    Case,
    Pooling,
    anserini,
    assert_agrees,
    batches_of,
    cases,
    inference_free,
    plain,
    sparse_encoder,
    splade,
)

ARCHITECTURES = ("bert", "distilbert", "modernbert", "roberta", "xlm-roberta")
POOLINGS: tuple[tuple[Pooling, Activation], ...] = (
    ("max", "relu"),
    ("max", "log1p_relu"),
    ("sum", "relu"),
    ("sum", "log1p_relu"),
)
# Measured on the tiny models, whose vectors 8 bits blur more than those of a trained one.
MEAN_8_BIT = 0.96

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
every_pooling = pytest.mark.parametrize(("pooling", "activation"), POOLINGS)


def files(result: Converted, precision: str) -> list[Path]:
    """Return the files of a precision: the one made from the optimized graph, and the other."""
    from_optimized = result.folder / f"onnx/model_opt1_{precision}.onnx"
    return [from_optimized, *from_portable(result, precision).values()]


def vector_cosines(path: Path, result: Converted) -> np.ndarray:
    """Return the cosine of each text's weights, where it has any, over all batches."""
    return np.concatenate(
        [
            cosine(case.vectors[some], run_graph(path, case.inputs)["sparse_vector"][some])
            for case in cases(result.checkpoint)
            for some in [case.vectors.any(axis=1)]
        ]
    )


@every_architecture
def test_the_batches_have_rare_terms_and_differ(architecture: str) -> None:
    made = {case.name: case for case in cases(splade(architecture).checkpoint)}
    vectors = made["batch 8, right padding"].vectors
    assert vectors.any(axis=1).all()
    assert (vectors > 0).mean() < 0.25
    assert made["length 1"].logits.shape[1] == 1
    assert (~made["batch 8, left padding"].mask[:, 0]).sum() > 3


@every_architecture
@pytest.mark.parametrize("file", FP32_FILES)
def test_the_fp32_files_give_the_vectors_of_sparse_encoder(architecture: str, file: str) -> None:
    result = splade(architecture)
    for case in cases(result.checkpoint):
        assert_agrees(result.folder / file, case)


@every_pooling
@pytest.mark.parametrize("file", FP32_FILES)
def test_logits_are_pooled_as_the_checkpoint_says(
    pooling: Pooling, activation: Activation, file: str
) -> None:
    result = splade("bert", pooling, activation)
    for case in cases(result.checkpoint):
        assert_agrees(result.folder / file, case)


def test_the_poolings_differ_from_each_other() -> None:
    def longest(pooling: Pooling, activation: Activation) -> np.ndarray:
        return cases(splade("bert", pooling, activation).checkpoint)[-1].vectors

    vectors = [longest(*settings) for settings in POOLINGS]
    for one, other in itertools.combinations(vectors, 2):
        assert np.abs(one - other).max() > 0.1


@every_architecture
def test_the_float16_files_keep_every_vector(architecture: str) -> None:
    result = splade(architecture)
    for path in files(result, "Float16"):
        assert vector_cosines(path, result).min() >= FLOAT16_COSINE, path


@every_pooling
def test_the_float16_files_pool_in_float32(pooling: Pooling, activation: Activation) -> None:
    result = splade("bert", pooling, activation)
    for path in files(result, "Float16"):
        assert vector_cosines(path, result).min() >= FLOAT16_COSINE, path
        types = {value.name: value.type.tensor_type.elem_type for value in graph(path).graph.output}
        assert types.pop("output_idx") == onnx.TensorProto.INT64
        assert set(types.values()) == {onnx.TensorProto.FLOAT}


@every_architecture
def test_the_8_bit_files_keep_the_vectors(architecture: str) -> None:
    result = splade(architecture)
    for path in files(result, "QInt8"):
        assert vector_cosines(path, result).mean() > MEAN_8_BIT, path


@pytest.mark.shared_data
@pytest.mark.parametrize("size", [1, 8])
def test_200_real_texts_get_the_vectors_of_sparse_encoder(size: int) -> None:
    result = splade("bert")
    for case in batches_of(sparse_encoder(result.checkpoint), real_texts(200), size):
        for file in FP32_FILES:
            assert_agrees(result.folder / file, case)


def real_texts(count: int) -> list[str]:
    lines = [
        line
        for name in ("corpus", "queries")
        for line in (SHARED_DATA / f"xquad/en/{name}.jsonl").read_text("utf-8").splitlines()
    ]
    texts = [json.loads(line)["text"] for line in lines]
    return texts[:: len(texts) // count][:count]


def graph(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


@pytest.mark.parametrize(
    ("architecture", "inputs"),
    [
        ("bert", ["attention_mask", "input_ids", "token_type_ids"]),
        ("distilbert", ["attention_mask", "input_ids"]),
    ],
)
def test_every_file_has_the_inputs_and_outputs_of_the_contract(
    architecture: str, inputs: Sequence[str]
) -> None:
    for path in (splade(architecture).folder / "onnx").glob("*.onnx"):
        found = graph(path).graph
        assert sorted(value.name for value in found.input) == inputs
        shapes = {value.name: shape(value) for value in found.output}
        assert tuple(shapes) == ALL_OUTPUTS
        assert shapes["logits"] == ["batch_size", "sequence_length", 1000]
        assert shapes["sparse_vector"] == ["batch_size", 1000]
        terms = [shapes["output_idx"], shapes["output_weights"]]
        assert all(isinstance(axis, str) for (axis,) in terms)


def shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


@every_pooling
def test_every_file_has_a_header_that_onnx_runtime_1_17_reads(
    pooling: Pooling, activation: Activation
) -> None:
    for path in (splade("bert", pooling, activation).folder / "onnx").glob("*.onnx"):
        model = graph(path)
        assert model.ir_version <= 9
        imported = {opset.domain: opset.version for opset in model.opset_import}
        assert imported[""] <= 20
        assert set(imported) <= {"", *(node.domain for node in model.graph.node)}


@pytest.mark.parametrize(("opset", "pooling"), [(14, "max"), (20, "max"), (20, "sum")])
def test_the_head_can_be_exported_to_the_first_and_last_opset(opset: int, pooling: Pooling) -> None:
    checkpoint = splade("bert", pooling).checkpoint
    target = str(workshop() / f"splade-opset-{opset}-{pooling}")
    result = converted(checkpoint, opset=opset, quantize=["QInt8"], output_dir=target)
    case = cases(checkpoint)[2]
    for name in ("model.onnx", "model_opt1.onnx"):
        assert graph(result.folder / "onnx" / name).opset_import[0].version == opset
        assert_agrees(result.folder / "onnx" / name, case)


def one_text(result: Converted) -> list[Case]:
    return [case for case in cases(result.checkpoint) if len(case.mask) == 1]


@pytest.mark.parametrize("file", FP32_FILES)
def test_the_pair_is_what_anserini_makes_of_one_text(file: str) -> None:
    result = splade("bert")
    for case in one_text(result):
        given = run_graph(result.folder / file, case.inputs)
        terms, weights = anserini(given["logits"], case.inputs["attention_mask"])
        assert given["output_idx"].dtype == np.int64
        np.testing.assert_array_equal(given["output_idx"], terms)
        np.testing.assert_allclose(given["output_weights"], weights, atol=1e-6)


@pytest.mark.parametrize("file", FP32_FILES)
def test_the_pair_is_what_anserini_makes_of_pytorch_s_logits(file: str) -> None:
    result = splade("bert")
    for case in one_text(result):
        given = run_graph(result.folder / file, case.inputs)
        pair = zip(given["output_idx"], given["output_weights"], strict=True)
        expected = zip(*anserini(case.logits, case.inputs["attention_mask"]), strict=True)
        ours, theirs = ({i: w for i, w in weights if w > COUNTED} for weights in (pair, expected))
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[term] - theirs[term]) <= FP32_TOLERANCE for term in ours)


@every_pooling
def test_the_pair_is_the_sparse_vector_without_its_zeros(
    pooling: Pooling, activation: Activation
) -> None:
    result = splade("bert", pooling, activation)
    for path in (result.folder / "onnx").glob("*.onnx"):
        for case in cases(result.checkpoint):
            given = run_graph(path, case.inputs)
            rows, terms = given["sparse_vector"].nonzero()
            np.testing.assert_array_equal(given["output_idx"], terms)
            weights = given["sparse_vector"][rows, terms]
            np.testing.assert_array_equal(given["output_weights"], weights)


def test_a_text_of_padding_alone_has_no_terms() -> None:
    result = splade("bert")
    inputs = {**one_text(result)[0].inputs}
    inputs["attention_mask"] = np.zeros_like(inputs["attention_mask"])
    for file in FP32_FILES:
        given = run_graph(result.folder / file, inputs)
        assert not given["sparse_vector"].any()
        assert given["output_idx"].shape == given["output_weights"].shape == (0,)


def test_outputs_can_be_chosen_and_put_in_order() -> None:
    checkpoint = splade("bert").checkpoint
    target = str(workshop() / "splade-outputs")
    chosen = ["output_weights,output_idx", "sparse_vector"]
    result = converted(checkpoint, splade_outputs=chosen, quantize=["QInt8"], output_dir=target)
    for path in (result.folder / "onnx").glob("*.onnx"):
        names = [value.name for value in graph(path).graph.output]
        assert names == ["output_weights", "output_idx", "sparse_vector"]
    for case in cases(checkpoint):
        given = run_graph(result.folder / "onnx/model.onnx", case.inputs)
        assert np.abs(case.vectors - given["sparse_vector"]).max() <= FP32_TOLERANCE
        assert given["output_idx"].dtype == np.int64
        rows, terms = given["sparse_vector"].nonzero()
        np.testing.assert_array_equal(given["output_idx"], terms)
        np.testing.assert_array_equal(given["output_weights"], given["sparse_vector"][rows, terms])


@pytest.mark.parametrize("conversion", [plain, inference_free])
def test_other_kinds_of_checkpoints_give_the_vectors_of_sparse_encoder(
    conversion: Callable[[], Converted],
) -> None:
    for case in cases(conversion().checkpoint):
        for name in ("model.onnx", "model_opt1.onnx"):
            assert_agrees(conversion().folder / "onnx" / name, case)
