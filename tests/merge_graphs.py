"""A graph with tensors in every place, in one file or in many, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from retort.graphs import external_data

WIDTH = 600  # a matrix of it has more than 1 MiB
Capture = pytest.CaptureFixture[str]


def model() -> onnx.ModelProto:
    """Return a graph with tensors in every place: initializers, constants, both arms of an If."""
    drawn = np.random.default_rng(0)

    def tensor(name: str, *dims: int) -> TensorProto:
        return numpy_helper.from_array(drawn.normal(size=dims).astype(np.float32), name)

    def arm(name: str, value: TensorProto) -> onnx.GraphProto:
        node = helper.make_node("Add", ["product", value.name], [name])
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH])
        return helper.make_graph([node], name, [], [result], [value])

    floats = [float(number) for number in drawn.normal(size=WIDTH)]
    constant = helper.make_node(
        "Constant", [], ["scale"], value=helper.make_tensor("s", TensorProto.FLOAT, [WIDTH], floats)
    )
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"]),
        helper.make_node(
            "If",
            ["chosen"],
            ["added"],
            then_branch=arm("then", tensor("yes", WIDTH)),
            else_branch=arm("else", tensor("no", WIDTH)),
        ),
        constant,
        helper.make_node("Mul", ["added", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH]),
        helper.make_tensor_value_info("chosen", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, WIDTH // 2])]
    shape = numpy_helper.from_array(np.array([-1, 2, WIDTH // 2]), "shape")
    graph = helper.make_graph(
        nodes, "all", inputs, outputs, [tensor("matrix", WIDTH, WIDTH), shape]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, {"author": "somebody"})
    return made


def in_many_files(folder: Path, threshold: int = 64) -> Path:
    """Write the graph with a file for each tensor but shapes, those of attributes and arms too."""
    folder.mkdir(exist_ok=True)
    kept = {"save_as_external_data": True, "all_tensors_to_one_file": False}
    onnx.save(model(), folder / "m.onnx", convert_attribute=True, size_threshold=threshold, **kept)
    return folder / "m.onnx"


def in_one_file(folder: Path) -> Path:
    onnx.save(model(), folder / "m.onnx")
    return folder / "m.onnx"


def in_both(folder: Path) -> Path:
    """Write the matrix to a file, the rest into the graph."""
    return in_many_files(folder, threshold=WIDTH * WIDTH)


def outputs(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    x = np.random.default_rng(1).normal(size=(3, WIDTH)).astype(np.float32)
    return [session.run(None, {"x": x, "chosen": np.array(way)})[0] for way in (True, False)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def external_tensors(path: Path) -> Iterator[ExternalDataInfo]:
    for tensor in external_data.tensors_of(onnx.load(path, load_external_data=False)):
        if uses_external_data(tensor):
            yield ExternalDataInfo(tensor)
