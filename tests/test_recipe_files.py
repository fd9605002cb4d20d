"""The files that 8-bit recipes make: close to the model in every batch, small, and portable."""

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
from onnx import TensorProto
from splade_checkpoints import build_splade
from staged import ARGUMENTS, checkpoint, optimized, portable
from tiny_checkpoints import build_sentence_transformer, build_token_classifier

from onnx_configs import families
from retort.artifact import Artifact
from retort.recipes.recipe import RECIPES, make_graph, prepare
from retort.recipes.trials import trial_texts
from retort.stages.validate import load_reference

SOURCES = {"portable graph": portable, "optimized graph": optimized}


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
