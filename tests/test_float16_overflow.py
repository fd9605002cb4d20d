"""Float16 files of models with weights, values and masks that float16 does not hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from agreement import FLOAT16_COSINE, cosines, sentence_cases
from converted import Converted, converted
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from safetensors.torch import load_file, save_file
from tiny_checkpoints import build_sentence_transformer
from torch import Tensor

from retort.graphs.float16 import convert_to_float16

LARGEST = np.finfo(np.float16).max
FILE = "onnx/model_fp16.onnx"
DAMAGE: dict[str, Callable[[str, Tensor], Tensor]] = {
    "products beyond float16": lambda name, v: v * 3e4 if _is_ffn_output(name) else v,
    "weights beyond float16": lambda name, v: v * 1e7 if _is_ffn_output(name) else v,
}


def _is_ffn_output(name: str) -> bool:
    return name.endswith("output.dense.weight") and "attention" not in name


def damaged(folder: Path, kind: str, optimize: int = 0) -> Converted:
    """Convert a model that is as good as any in fp32, whose norms undo the larger weights."""
    checkpoint = build_sentence_transformer(folder / "checkpoint", "bert")
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    save_file({n: DAMAGE[kind](n, v) for n, v in weights.items()}, path, metadata={"format": "pt"})
    return converted(checkpoint, optimize=optimize, quantize=["Float16", "Q4F16"])


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_float16_file_agrees_where_float16_alone_would_not(kind: str, tmp_path: Path) -> None:
    result = damaged(tmp_path, kind)
    cases = sentence_cases(result.checkpoint)
    assert cosines(result.folder / FILE, cases, "sentence_embedding").min() >= FLOAT16_COSINE
    assert cosines(result.folder / FILE, cases, "last_hidden_state").min() >= FLOAT16_COSINE
    # What ONNX Runtime's own converter makes of it shows that the model is hard.
    plain = tmp_path / "plain.onnx"
    onnx.save(convert_float_to_float16(result.graph("onnx/model.onnx"), keep_io_types=True), plain)
    run = onnxruntime.InferenceSession(plain).run
    hidden = run(["last_hidden_state"], cases[0].inputs)[0]
    expected = cases[0].expected["last_hidden_state"]
    assert not np.isfinite(hidden).all() or np.abs(hidden - expected).max() > 0.1


def test_a_fused_graph_agrees_too(tmp_path: Path) -> None:
    result = damaged(tmp_path, "products beyond float16", optimize=1)
    cases = sentence_cases(result.checkpoint)
    assert cosines(result.folder / FILE, cases, "sentence_embedding").min() >= FLOAT16_COSINE


def test_the_rest_of_such_a_model_is_still_float16(tmp_path: Path) -> None:
    model = damaged(tmp_path, "products beyond float16").graph(FILE)
    large = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) > 500]
    kept = [t.name for t in large if t.data_type == TensorProto.FLOAT]
    assert len(large) >= 14
    assert len(kept) == 2  # the second matrix of each of two layers


@pytest.mark.parametrize("masks", [1, 2])
@pytest.mark.parametrize("mask", [float(np.finfo(np.float32).min), -1e9, -1e30])
def test_rows_that_are_masked_as_a_whole_have_a_softmax(mask: float, masks: int) -> None:
    nodes = [helper.make_node("Where", ["hidden", "mask", "zero"], ["added"])]
    for number in range(masks):
        before = f"scores{number or ''}"
        nodes.append(helper.make_node("Add", [before, "added"], [f"scores{number + 1}"]))
    nodes.append(helper.make_node("Softmax", [f"scores{masks}"], ["shares"]))
    constants = [
        numpy_helper.from_array(np.float32(value), name)
        for name, value in (("mask", mask), ("zero", 0))
    ]
    inputs = [
        helper.make_tensor_value_info("hidden", TensorProto.BOOL, [2, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [2, 4]),
    ]
    outputs = [helper.make_tensor_value_info("shares", TensorProto.FLOAT, [2, 4])]
    graph = helper.make_graph(nodes, "masks", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    convert_to_float16(model)
    assert all(np.isfinite(numpy_helper.to_array(t)).all() for t in model.graph.initializer)
    given = {
        "hidden": np.array([[True] * 4, [False, False, True, True]]),
        "scores": np.array([[-90, 2, 3, 4], [1, 1, 90, 90]], np.float32),
    }
    (shares,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares[1], [0.5, 0.5, 0, 0], atol=1e-3)


def test_a_limit_that_is_no_mask_stays_as_it_is() -> None:
    lowest = numpy_helper.from_array(np.finfo(np.float32).min, "lowest")
    node = helper.make_node("Clip", ["x", "lowest"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "limit", values[:1], values[1:], [lowest])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    convert_to_float16(model)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(
        None, {"x": np.array([-30_000], np.float32)}
    )
    assert y == [-30_000]
    assert abs(y[0]) < LARGEST
