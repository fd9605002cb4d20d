"""Weights of 4 and 8 bits: what ONNX Runtime reads from them, and what every graph keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from agreement import cosines, sentence_cases
from converted import Converted, converted
from graph_commands import run
from onnx import TensorProto, helper, numpy_helper
from splade_checkpoints import build_splade
from tiny_checkpoints import build_sentence_transformer

from retort.arguments import ConversionArguments
from retort.errors import InputError
from retort.graphs.byte_tables import quantize_tables
from retort.graphs.n_bit import quantize_n_bit, quantize_nf4
from retort.plan import file_names

N_BIT = ["Q8", "Q4", "Q4F16", "BNB4"]
OPERATORS = {"Q8": "MatMulNBits", "Q4": "MatMulNBits", "Q4F16": "MatMulNBits", "BNB4": "MatMulBnb4"}
# Random models lose much at 4 bits; a wrong layout leaves nothing.
LOWEST = {"Q8": 0.9995, "Q4": 0.9, "Q4F16": 0.9, "BNB4": 0.9}
INPUTS, OUTPUTS = 40, 17  # neither fills a block, nor a byte


def product(matrix: np.ndarray, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a graph that multiplies by a matrix, in a MatMul and in a Gemm by its transpose."""
    weights = [numpy_helper.from_array(v, name) for name, v in (("M", matrix), ("T", matrix.T))]
    nodes = [
        helper.make_node("MatMul", ["x", "M"], ["y"]),
        helper.make_node("Gemm", ["x", "T"], ["z"], transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, [None, len(matrix)])]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in "yz"]
    graph = helper.make_graph(nodes, "product", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def outputs_of(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)


def blocks_of(matrix: np.ndarray, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, len(matrix), size)]


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("size", [16, 32, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_is_off_by_at_most_a_step_of_its_block(bits: int, size: int, kind: type) -> None:
    matrix = np.random.default_rng(0).normal(0.1, 1, (INPUTS, OUTPUTS)).astype(kind)
    matrix[:size, 3] = 0
    model = product(matrix, TensorProto.FLOAT16 if kind is np.float16 else TensorProto.FLOAT)
    assert quantize_n_bit(model, bits, size) == 2
    for read in outputs_of(model, x=np.eye(INPUTS, dtype=kind)):
        for rows in blocks_of(matrix, size):
            block, error = matrix[rows], np.abs(read[rows] - matrix[rows])
            extent = np.maximum(block.max(0), 0) - np.minimum(block.min(0), 0)
            # Half a step, and another half where the zero was rounded to one.
            assert (error <= extent / (2**bits - 1) + 1e-2 * (kind is np.float16) + 1e-6).all()


@pytest.mark.parametrize("size", [16, 32, 256])
def test_nf4_keeps_the_largest_value_of_a_block_and_is_near_the_others(size: int) -> None:
    matrix = np.random.default_rng(0).normal(0, 1, (INPUTS, OUTPUTS)).astype(np.float32)
    model = product(matrix)
    assert quantize_nf4(model, size) == 2
    for read in outputs_of(model, x=np.eye(INPUTS, dtype=np.float32)):
        flat, values = read.T.ravel(), matrix.T.ravel()
        for place in blocks_of(values, size):
            largest = np.abs(values[place]).argmax()
            np.testing.assert_allclose(flat[place][largest], values[place][largest], rtol=0.01)
            assert np.abs(flat[place] - values[place]).max() < 0.16 * np.abs(values[place]).max()


def test_a_table_of_8_bits_is_off_by_half_a_step_whatever_shape_the_ids_have() -> None:
    table = np.random.default_rng(0).normal(0, 1, (200, 64)).astype(np.float32)
    for shape in ((), (3,), (2, 5)):
        ids = helper.make_tensor_value_info("ids", TensorProto.INT64, shape)
        rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [*shape, 64])
        look_up = helper.make_node("Gather", ["table", "ids"], ["rows"])
        stored = numpy_helper.from_array(table, "table")
        model = helper.make_model(
            helper.make_graph([look_up], "rows", [ids], [rows], [stored]),
            opset_imports=[helper.make_opsetid("", 14)],
            ir_version=8,
        )
        assert quantize_tables(model, 32) == 1
        onnx.checker.check_model(model, full_check=True)
        given = np.random.default_rng(1).integers(0, 200, shape)
        (read,) = outputs_of(model, ids=np.asarray(given))
        assert read.shape == (*shape, 64)
        step = np.abs(table[given].reshape(-1, 2, 32)).max(-1, keepdims=True) / 127
        error = np.abs(read - table[given]).reshape(-1, 2, 32)
        assert (error <= step / 2 + 1e-6).all()


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Return a model whose layers share their weights, in every precision of n bits."""
    folder = tmp_path_factory.mktemp("n-bit") / "checkpoint"
    return converted(build_sentence_transformer(folder, "albert"), quantize=N_BIT)


@pytest.mark.parametrize("precision", N_BIT)
def test_every_precision_keeps_the_vectors_and_stores_a_shared_weight_once(
    precision: str, albert: Converted
) -> None:
    name = f"onnx/model_{precision.lower()}.onnx"
    found = cosines(albert.folder / name, sentence_cases(albert.checkpoint), "sentence_embedding")
    assert found.mean() >= LOWEST[precision]
    model = albert.graph(name)
    products = [node for node in model.graph.node if node.op_type == OPERATORS[precision]]
    # Four weights of attention and two more in each of two layers, and one before them.
    assert len(products) == 13
    assert len({node.input[1] for node in products}) == 7
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names))
    whole = albert.graph("onnx/model.onnx")
    assert model.ByteSize() < 0.75 * whole.ByteSize()
    assert model.ir_version <= 9
    assert [value.name for value in model.graph.output] == [v.name for v in whole.graph.output]
    kinds = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    assert kinds == {TensorProto.INT64, TensorProto.FLOAT}


def test_the_record_says_how_and_for_which_runtime(albert: Converted) -> None:
    files = albert.json("conversion.json")["files"]
    for precision, runtime in (("Q4", "1.17"), ("Q8", "1.23")):
        record = files[f"onnx/model_{precision.lower()}.onnx"]
        (step,) = (step for step in record["steps"] if step["name"] == "quantize")
        assert step["settings"]["from"] == "portable graph"
        assert step["settings"]["block_size"] == 32
        assert step["settings"]["needs"] == f"ONNX Runtime {runtime}"


def test_a_matrix_that_is_the_transpose_of_a_table_is_quantized_too(tmp_path: Path) -> None:
    folder = converted(build_splade(tmp_path / "checkpoint", "bert"), quantize=["Q4"]).folder
    model = onnx.load(folder / "onnx" / "model_q4.onnx")
    large = [tensor.name for tensor in model.graph.initializer if np.prod(tensor.dims) > 20_000]
    kinds = {t.data_type for t in model.graph.initializer if t.name in large}
    assert kinds == {TensorProto.INT8}  # 1000 words of 32; half as many bytes at 4 bits
    (words,) = (node for node in model.graph.node if "decoder/MatMul" in node.name)
    assert words.op_type == "MatMulNBits"


@pytest.mark.parametrize("order", [("Q8", "QInt8"), ("QInt8", "Q8")])
def test_only_8_bit_products_are_what_transformers_js_calls_q8(order: tuple[str, str]) -> None:
    names = file_names(ConversionArguments(model_id="", quantize=list(order)))
    assert names["QInt8"] == "onnx/model_quantized.onnx"
    assert names["Q8"] == "onnx/model_q8.onnx"


def test_names_by_level_say_that_no_fused_graph_was_taken() -> None:
    arguments = ConversionArguments(model_id="", quantize=N_BIT, file_naming="opt_level")
    names = file_names(arguments)
    assert [names[precision] for precision in N_BIT] == [
        f"onnx/model_opt0_{precision}.onnx" for precision in N_BIT
    ]


@pytest.mark.parametrize("name", ["BFloat16", "bfloat16"])
def test_bfloat16_is_refused_with_what_the_runtime_lacks(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no MatMul, Add or Softmax in bfloat16 on a CPU"):
        ConversionArguments(model_id="", quantize=[name])
    ended = run(capsys, "quantize", "model.onnx", "--dtype", name)
    assert ended.code == 2
    assert "no MatMul, Add or Softmax in bfloat16 on a CPU" in ended.stderr


def test_the_runtime_has_no_bfloat16_on_a_cpu() -> None:
    kinds = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [2, 2]) for name in "xyz"]
    for operator in ("MatMul", "Add"):
        node = helper.make_node(operator, ["x", "y"], ["z"])
        graph = helper.make_graph([node], "bfloat16", kinds[:2], kinds[2:])
        opset = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        with pytest.raises(Exception, match="Could not find an implementation"):
            onnxruntime.InferenceSession(model.SerializeToString())


def test_the_command_takes_a_block_size_and_tells_of_fused_weights(
    albert: Converted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, made = albert.folder / "onnx" / "model.onnx", tmp_path / "new.onnx"
    words = ["--dtype", "Q4", "--block_size", "16", "--output", made]
    assert run(capsys, "quantize", graph, *words).code == 0
    sizes = {a.i for n in onnx.load(made).graph.node for a in n.attribute if a.name == "block_size"}
    assert sizes == {16}
    refused = run(capsys, "quantize", graph, "--block_size", "17")
    assert (refused.code, "--block_size" in refused.stderr) == (2, True)
    fused = albert.folder / "onnx" / "model_opt1.onnx"
    done = run(capsys, "quantize", fused, "--dtype", "Q4", "--output", made, "--force")
    assert "fused operators keep their weights as they are (1)" in done.stderr
