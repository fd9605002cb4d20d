"""The recipes of 8 bits: what is changed leaves the model as it is, what is rounded is close."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import Case, cosines, largest_difference, sentence_cases
from colbert_checkpoints import build_colbert
from converted import converted, workshop
from cross_encoder_checkpoints import build_classifier
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file
from splade_checkpoints import build_splade
from staged import ARGUMENTS, checkpoint, optimized, portable
from tiny_checkpoints import build_sentence_transformer, build_token_classifier

import convert
from onnx_configs import families
from retort.arguments import ConversionArguments
from retort.artifact import Artifact
from retort.errors import FidelityError, InputError
from retort.recipes.calibration import calibrate
from retort.recipes.duplicate import duplicating_edits
from retort.recipes.equalise import Equalised, equalise
from retort.recipes.graph_view import GraphView
from retort.recipes.products import find_groups, load
from retort.recipes.recipe import LADDERS, RECIPES, make_graph, prepare
from retort.recipes.rounding import channel_scales, round_by_error, round_nearest
from retort.recipes.trials import trial_texts
from retort.report import Ladder
from retort.stages.validate import load_reference

RANDOM = np.random.default_rng(0)
WIDTH = 192
PROMISED = 0.998
SOURCES = {"portable graph": portable, "optimized graph": optimized}


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


@cache
def made(source: str) -> Mapping[str, Path]:
    """Return the file of each recipe but the plain one, made from a graph."""
    artifact: Artifact = SOURCES[source]()
    folder = workshop() / "recipes" / source
    (folder / "prepared").mkdir(parents=True)
    reference = load_reference(families()["embedding"], checkpoint(), ARGUMENTS)
    texts, _ = trial_texts(None, "text", 64)
    batches = tuple(reference.tokenize([text], "right") for text in texts)
    prepared = prepare(artifact.path, folder / "prepared", batches, progress=False)
    assert largest_difference(prepared.path, cases())[0] < 1e-5
    files = {}
    for recipe in RECIPES[1:]:
        files[recipe.name] = folder / f"{recipe.name}.onnx"
        make_graph(prepared, recipe, files[recipe.name], signed=True, pairs=True, progress=False)
    return files


def cases() -> tuple[Case, ...]:
    return sentence_cases(checkpoint().folder)


@pytest.mark.parametrize("recipe", [recipe.name for recipe in RECIPES[1:]])
@pytest.mark.parametrize("source", SOURCES)
def test_every_recipe_keeps_the_vectors_at_any_batch_length_and_padding(
    source: str, recipe: str
) -> None:
    assert cosines(made(source)[recipe], cases(), "sentence_embedding").min() >= 0.97


@pytest.mark.parametrize("source", SOURCES)
def test_static_ranges_make_a_text_independent_of_its_batch_mates(source: str) -> None:
    from agreement import run_graph

    path = made(source)["rounded"]
    case = next(case for case in cases() if len(case.inputs["input_ids"]) > 1)
    together = run_graph(path, case.inputs)["sentence_embedding"]
    alone = [
        run_graph(path, {name: value[row : row + 1] for name, value in case.inputs.items()})
        for row in range(len(together))
    ]
    found = np.concatenate([one["sentence_embedding"] for one in alone])
    np.testing.assert_allclose(found, together, atol=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_a_careful_file_loads_in_old_runtimes_and_is_as_small_as_a_plain_one(source: str) -> None:
    model = onnx.load(str(made(source)["rounded"]))
    assert model.ir_version <= 9
    assert {o.domain: o.version for o in model.opset_import}[""] <= 20
    kinds = {node.op_type for node in model.graph.node}
    assert "MatMulIntegerToFloat" in kinds
    assert "DynamicQuantizeLinear" not in kinds
    large = [t for t in model.graph.initializer if len(t.dims) == 2 and np.prod(t.dims) > 1e4]
    assert large
    assert all(t.data_type == TensorProto.INT8 for t in large)


BUILDERS = {
    "embedding": lambda folder: build_sentence_transformer(folder, "modernbert"),
    "colbert": lambda folder: build_colbert(folder, "bert"),
    "splade": lambda folder: build_splade(folder, "bert"),
    "cross_encoder": lambda folder: build_classifier(folder, "bert"),
    "token_classification": lambda folder: build_token_classifier(folder, "bert"),
}


@pytest.mark.parametrize("family", BUILDERS)
def test_every_text_family_is_calibrated_without_code_of_its_own(
    family: str, tmp_path: Path
) -> None:
    folder = BUILDERS[family](tmp_path / "checkpoint")
    options = {"recipe": "accurate", "min_fidelity": 0.0, "calibration_samples": 16}
    result = converted(folder, quantize=["QInt8"], optimize=0, **options)
    files = result.json("conversion.json")["files"]
    (told,) = (file for file in files.values() if file["precision"] == "QInt8")
    (settings,) = (s["settings"] for s in told["steps"] if s["name"] == "quantize")
    assert (settings["recipe"], settings["calibration_texts"]) == ("rounded", 16)


def with_outliers(folder: Path) -> Path:
    """Return a tiny BERT whose layers make one channel far larger than the others."""
    build_sentence_transformer(folder, "bert")
    file = next(folder.rglob("model.safetensors"))
    weights = load_file(file)
    for name in weights:
        if name.endswith("LayerNorm.weight"):
            weights[name][5] *= 6
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def ladder_of(tmp_path: Path, min_fidelity: float) -> Ladder:
    arguments = ConversionArguments(
        model_id=str(with_outliers(tmp_path / "checkpoint")),
        output_dir=str(tmp_path / "out"),
        quantize=["QInt8"],
        optimize=0,
        min_fidelity=min_fidelity,
        calibration_samples=64,
        quiet=True,
    )
    report = convert.convert(arguments).report
    assert report is not None
    (ladder,) = report.ladders
    return ladder


def test_auto_keeps_the_first_recipe_that_has_the_fidelity_asked_for(tmp_path: Path) -> None:
    ladder = ladder_of(tmp_path, PROMISED)
    assert [rung.recipe for rung in ladder.rungs] == [
        recipe.name for recipe in LADDERS["auto"][: len(ladder.rungs)]
    ]
    assert len(ladder.rungs) > 1
    assert [rung.passed for rung in ladder.rungs] == [False] * (len(ladder.rungs) - 1) + [True]
    assert ladder.rungs[-1].fidelity_mean >= PROMISED
    assert ladder.rungs[-1].batch_mates >= PROMISED


def test_where_no_recipe_passes_the_ladder_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(FidelityError, match=r"no recipe reaches 1; .*--min_fidelity") as caught:
        ladder_of(tmp_path, 1.0)
    assert all(recipe.name in str(caught.value) for recipe in RECIPES)
    assert not (tmp_path / "out").exists()


def test_own_texts_are_calibrated_with_and_every_fifth_is_kept_to_measure_on(
    tmp_path: Path,
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(f"text {number}" for number in range(20)), encoding="utf-8")
    calibration, held_out = trial_texts(str(file), "text", 100)
    assert held_out == ("text 0", "text 5", "text 10", "text 15")
    assert len(calibration) == 16
    assert not set(calibration) & set(held_out)
    assert len(trial_texts(str(file), "text", 3)[0]) == 3
    with pytest.raises(InputError, match="absent"):
        trial_texts(str(tmp_path / "absent.txt"), "text", 3)


def test_the_texts_that_ship_are_calibrated_with_and_others_measured_on() -> None:
    calibration, held_out = trial_texts(None, "text", 1000)
    assert len(calibration) > 200
    assert not set(calibration) & set(held_out)
