"""Fused operators taken apart for 8 bits and put together again: the same numbers come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from retort.recipes.attention import join_attention
from retort.recipes.calibration import Activations
from retort.recipes.equalise import Equalised
from retort.recipes.products import find_groups
from retort.recipes.rewrite import Rounding, quantize_products
from retort.recipes.spread import load

RANDOM = np.random.default_rng(3)
WIDTH, HEADS = 16, 2
MICROSOFT = "com.microsoft"
CONSTANTS = {
    "weight": (WIDTH, WIDTH),
    "bias": (WIDTH,),
    "gamma": (WIDTH,),
    "beta": (WIDTH,),
    "three_weights": (WIDTH, 3 * WIDTH),
    "three_biases": (3 * WIDTH,),
}


def graph(nodes: Sequence[NodeProto], outputs: Sequence[str], opset: int = 18) -> onnx.ModelProto:
    """Return a graph of ``x`` and ``skip``, ``[batch, sequence, 16]``, and the mask of both."""
    shape = ["batch", "sequence", WIDTH]
    made = helper.make_graph(
        list(nodes),
        "fused",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("skip", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "sequence"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(RANDOM.normal(size=size).astype(np.float32), name)
            for name, size in CONSTANTS.items()
        ],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def inputs(batch: int, length: int) -> dict[str, np.ndarray]:
    values = RANDOM.normal(size=(2, batch, length, WIDTH)).astype(np.float32)
    mask = np.ones((batch, length), np.int32)
    mask[-1, length // 2 + 1 :] = 0
    return {"x": values[0], "skip": values[1], "mask": mask}


def run(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    taken = {value.name for value in session.get_inputs()}
    found: list[np.ndarray] = session.run(None, {k: v for k, v in given.items() if k in taken})
    return found


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load_from_string(model.SerializeToString())


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def assert_the_same(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    for batch, length in ((1, 1), (1, 7), (3, 5)):
        given = inputs(batch, length)
        for expected, actual in zip(run(before, given), run(after, given), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def skip_normalization(outputs: Sequence[str], *, swapped: bool, biased: bool) -> list[NodeProto]:
    pair = ["skip", "product"] if swapped else ["product", "skip"]
    given = [*pair, "gamma", "beta", *(["bias"] if biased else [])]
    return [
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node(
            "SkipLayerNormalization", given, list(outputs), domain=MICROSOFT, epsilon=1e-5
        ),
    ]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("outputs", [["y"], ["y", "", "", "total"]])
def test_a_skip_normalization_becomes_a_difference_and_a_normalization(
    outputs: list[str], swapped: bool, biased: bool
) -> None:
    nodes = skip_normalization(outputs, swapped=swapped, biased=biased)
    before = graph(nodes, [name for name in outputs if name])
    after = load(copied(before)).rebuilt()
    found = operators(after)
    wanted = {"LayerNormalization": 1, "MatMul": 1, "Sub": 1, "Add": int(biased)}
    assert all(found[name] == count for name, count in wanted.items())
    assert_the_same(before, after)


def test_a_skip_normalization_without_a_standard_operator_stays() -> None:
    nodes = skip_normalization(["y"], swapped=False, biased=True)
    after = load(graph(nodes, ["y"], opset=16)).rebuilt()
    assert operators(after)["SkipLayerNormalization"] == 1


def test_a_sum_of_no_product_stays_a_sum() -> None:
    nodes = [
        helper.make_node("Add", ["x", "skip"], ["total"]),
        helper.make_node("LayerNormalization", ["total", "gamma", "beta"], ["y"]),
    ]
    assert operators(load(graph(nodes, ["y"])).rebuilt()) == {"Add": 1, "LayerNormalization": 1}


def test_a_product_that_others_read_is_not_made_negative() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("Add", ["product", "skip"], ["total"]),
        helper.make_node("LayerNormalization", ["total", "gamma", "beta"], ["y"]),
        helper.make_node("Relu", ["product"], ["z"]),
    ]
    before = graph(nodes, ["y", "z"])
    after = load(copied(before)).rebuilt()
    assert operators(after) == operators(before)
    assert_the_same(before, after)


def test_a_weight_that_another_product_shares_is_negative_in_one_alone() -> None:
    nodes = [
        *skip_normalization(["y"], swapped=False, biased=True),
        helper.make_node("MatMul", ["skip", "weight"], ["z"]),
    ]
    before = graph(nodes, ["y", "z"])
    assert_the_same(before, load(copied(before)).rebuilt())


def test_the_bias_of_a_gelu_goes_to_the_product() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("BiasGelu", ["product", "bias"], ["y"], domain=MICROSOFT),
    ]
    before = graph(nodes, ["y"])
    view = load(copied(before))
    ((product,),) = (group.products for group in find_groups(view))
    assert product.bias == "bias"
    assert_the_same(before, view.rebuilt())


def attention(**settings: float) -> onnx.ModelProto:
    node = helper.make_node(
        "Attention", ["x", "three_weights", "three_biases", "mask"], ["y"], domain=MICROSOFT,
        num_heads=HEADS, **settings,
    )  # fmt: skip
    return graph([node], ["y"])


def seen() -> Activations:
    rows = RANDOM.normal(size=(200, WIDTH)).astype(np.float32)
    low, high = rows.min(axis=0), rows.max(axis=0)
    return Activations(np.maximum(high, -low), low, high, rows, rows.T @ rows / np.float32(200))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("settings", [{}, {"scale": 0.7}, {"mask_filter_value": -100.0}])
def test_attention_in_integers_is_one_operator_and_close_to_fp32(
    settings: dict[str, float], signed: bool, static: bool
) -> None:
    before = attention(**settings)
    view = load(copied(before))
    assert operators(view.rebuilt())["MultiHeadAttention"] == 1
    (group,) = find_groups(view)
    rounding = Rounding(by_error=False, pairs=True, signed=signed)
    quantize_products(view, [Equalised(group, seen(), 0.0)], rounding, static=static)
    after = view.rebuilt()
    quantizer = "QuantizeLinear" if static else "DynamicQuantizeLinear"
    assert operators(after) == {"QAttention": 1, quantizer: 1}
    given = inputs(3, 6)
    (expected,), (actual,) = run(before, given), run(after, given)
    real = given["mask"].astype(bool)
    assert np.abs(actual - expected)[real].mean() < 0.1 * np.abs(expected)[real].mean()


def test_attention_whose_projection_is_read_elsewhere_is_not_joined() -> None:
    view = load(attention())
    quantize_products(
        view, [Equalised(find_groups(view)[0], seen(), 0.0)], Rounding(False, True, True),
        static=True,
    )  # fmt: skip
    assert [node.op_type for node in view.nodes].count("QAttention") == 1
    apart = load(attention())
    apart.nodes.append(helper.make_node("Relu", [f"{apart.nodes[-1].input[0]}"], ["z"], "reader"))
    quantize_products(
        apart, [Equalised(find_groups(apart)[0], seen(), 0.0)], Rounding(False, True, True),
        static=True,
    )  # fmt: skip
    join_attention(apart)
    assert [node.op_type for node in apart.nodes].count("MultiHeadAttention") == 1
