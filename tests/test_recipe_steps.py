"""The steps of 8-bit recipes: what is changed computes the same, what is rounded is close."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from retort.recipes.balance import balanced_scales
from retort.recipes.calibration import Activations, calibrate
from retort.recipes.duplicate import duplicating_edits
from retort.recipes.equalise import Equalised, equalise
from retort.recipes.graph_view import GraphView
from retort.recipes.products import find_groups
from retort.recipes.rounding import channel_scales, paired_order, round_by_error, round_nearest
from retort.recipes.spread import load

RANDOM = np.random.default_rng(0)
WIDTH = 192


def products(folder: Path) -> onnx.ModelProto:
    """Return x → two products with a GELU between them, with one channel that grows large."""
    first = RANDOM.normal(size=(16, WIDTH)).astype(np.float32)
    first[:, 5] *= 30
    second = RANDOM.normal(size=(WIDTH, 24)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("BiasGelu", ["b", "more"], ["c"], domain="com.microsoft"),
        helper.make_node("MatMul", ["c", "second"], ["y"]),
    ]
    constants: Mapping[str, np.ndarray] = {
        "first": first,
        "second": second,
        "bias": RANDOM.normal(size=WIDTH).astype(np.float32),
        "more": RANDOM.normal(size=WIDTH).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "products",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 16]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    folder.mkdir(exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))
    return model


def rows(count: int = 6) -> list[dict[str, np.ndarray]]:
    """Return batches of unequal shape, the last token of each row being padding."""
    made = []
    for length in range(3, 3 + count):
        values = RANDOM.normal(size=(2, length, 16)).astype(np.float32)
        mask = np.ones((2, length), np.int64)
        mask[:, -1] = 0
        values[:, -1] = 1e6  # which must not count
        made.append({"x": values, "attention_mask": mask})
    return made


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(["y"], dict(inputs))
    return found[inputs["attention_mask"].astype(bool)]


def equalised(folder: Path, *, split: bool) -> tuple[GraphView, tuple[Equalised, ...]]:
    products(folder)
    view = load(onnx.load(str(folder / "model.onnx")))
    groups = find_groups(view)
    found = calibrate(folder / "model.onnx", [group.input for group in groups], rows())
    return view, equalise(view, groups, found, split=split)


def test_calibration_leaves_padding_out_and_takes_batches_of_any_shape(tmp_path: Path) -> None:
    products(tmp_path)
    batches = rows()
    found = calibrate(tmp_path / "model.onnx", ["x"], batches)["x"]
    real = np.concatenate([b["x"][b["attention_mask"].astype(bool)] for b in batches])
    np.testing.assert_allclose(found.low, real.min(axis=0))
    np.testing.assert_allclose(found.high, real.max(axis=0))
    np.testing.assert_allclose(found.moments, real.T @ real / len(real), rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


@pytest.mark.parametrize("split", [False, True])
def test_an_equalised_graph_computes_the_same_with_smaller_outliers(
    split: bool, tmp_path: Path
) -> None:
    view, groups = equalised(tmp_path, split=split)
    before, after = onnx.load(str(tmp_path / "model.onnx")), view.rebuilt()
    for batch in rows():
        np.testing.assert_allclose(run(before, batch), run(after, batch), rtol=1e-3, atol=1e-3)
    second = groups[1].activations
    assert second.largest.max() < 20 * np.median(second.largest)
    # A duplicated channel has a row of its own in the next weight, and so a smaller one.
    width = view.shape(groups[1].group.products[0].weight)[0]
    assert (width > WIDTH) is split
    assert view.shape(groups[0].group.products[0].weight)[1] == width


def test_channels_that_another_node_reads_are_not_duplicated(tmp_path: Path) -> None:
    model = products(tmp_path)
    reader = helper.make_node("Identity", ["b"], ["z"], "reader")
    model.graph.node.append(reader)
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    view = load(model)
    (product,) = (node.name for node in view.nodes if node.output[0] == "y")
    assert duplicating_edits(view, "c", np.arange(WIDTH), frozenset({product})) is None


def pair_sums(rounded: np.ndarray) -> np.ndarray:
    pairs = rounded.astype(int).reshape(-1, 2, rounded.shape[1])
    return np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))


@pytest.mark.parametrize("by_error", [False, True])
def test_two_products_of_safe_weights_fit_16_bits(by_error: bool) -> None:
    weight = RANDOM.uniform(-1, 1, size=(64, 40)).astype(np.float32)
    values = RANDOM.normal(size=(500, 64)).astype(np.float32)
    moments = values.T @ values / 500
    scales = channel_scales(weight, np.diagonal(moments), pairs=True)
    if by_error:
        rounded = round_by_error(weight, scales, moments, pairs=True)
    else:
        rounded = round_nearest(weight, scales, pairs=True)
    assert pair_sums(rounded).max() <= 128
    assert np.abs(rounded * scales - weight).max() < 0.4


def test_rows_with_large_weights_get_partners_with_small_ones() -> None:
    weight = (RANDOM.normal(size=(65, 40)) * np.repeat([1, 0.1], [33, 32])[:, None]).astype("f4")
    order = paired_order(weight)
    assert sorted(order) == list(range(65))
    importance = np.ones(65, np.float32)
    lost = []
    for rows_in_order in (weight, weight[order]):
        scales = channel_scales(rows_in_order, importance, pairs=True)
        rounded = round_nearest(rows_in_order, scales, pairs=True)
        lost.append(float(np.square(rounded * scales - rows_in_order).sum()))
    assert lost[1] < 0.5 * lost[0]


def test_rounding_by_error_loses_less_on_correlated_activations_than_the_nearest() -> None:
    weight = RANDOM.normal(size=(64, 40)).astype(np.float32)
    values = (RANDOM.normal(size=(2000, 8)) @ RANDOM.normal(size=(8, 64))).astype(np.float32)
    scales = channel_scales(weight, np.ones(64, np.float32), pairs=False)
    moments = values.T @ values / len(values)
    found = [
        np.square(values @ (rounded * scales - weight)).sum()
        for rounded in (
            round_by_error(weight, scales, moments, pairs=False),
            round_nearest(weight, scales, pairs=False),
        )
    ]
    assert found[0] < 0.3 * found[1]


def lost_in_8_bits(activations: np.ndarray, weight: np.ndarray) -> float:
    """Return the squared error of a product whose operands have one scale, and one a column."""
    step = np.ptp(activations) / 255
    steps = np.abs(weight).max(axis=0) / 127
    rough = np.rint(activations / step) * step @ (np.rint(weight / steps) * steps)
    return float(np.square(rough - activations @ weight).sum())


def test_balanced_scales_lose_less_than_dividing_outliers_alone() -> None:
    sizes = np.exp(RANDOM.normal(size=96)).astype(np.float32)
    values = (RANDOM.normal(size=(2048, 96)) * sizes).astype(np.float32)
    weight = (RANDOM.normal(size=(96, 64)) / np.sqrt(sizes)[:, None]).astype(np.float32)
    low, high = values.min(axis=0), values.max(axis=0)
    moments = values.T @ values / np.float32(len(values))
    seen = Activations(np.maximum(high, -low), low, high, values, moments)
    divided = np.maximum(1, seen.largest / (2 * np.median(seen.largest))).astype(np.float32)
    scales = balanced_scales(seen, weight, divided, np.ones(96, np.float32))
    assert scales.min() >= 0.5
    lost = {
        name: lost_in_8_bits(values / by, weight * by[:, None])
        for name, by in (("nothing", np.ones(96)), ("outliers", divided), ("balanced", scales))
    }
    assert lost["balanced"] < 0.9 * lost["outliers"] < 0.9 * lost["nothing"]
