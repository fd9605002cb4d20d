"""Where the graphs of a folder stand: in ``onnx/``, in its root, or in both as hard links."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from colbert_checkpoints import build_colbert
from converted import Converted, converted, files_of, workshop
from optimum.onnxruntime import ORTModelForFeatureExtraction
from sentence_transformers import SentenceTransformer
from tiny_checkpoints import build_sentence_transformer, build_token_classifier
from transformers import AutoTokenizer

import convert
from retort.arguments import ConversionArguments
from retort.errors import InputError
from retort.runtime import load
from retort.stages.publish import check_folder

BUILDERS: Mapping[str, Callable[[Path], Path]] = {
    "embedding": lambda folder: build_sentence_transformer(folder, "bert"),
    "token_classification": lambda folder: build_token_classifier(folder, "bert"),
    "colbert": lambda folder: build_colbert(folder, "bert"),
}
INSIDE = {
    "onnx/model.onnx",
    "onnx/model_fp16.onnx",
    "onnx/model_int8.onnx",
    "onnx/model_opt1.onnx",
    "onnx/model_quantized.onnx",
}
# The root's names are those that are asked for there: next-plaid's and TEI's.
LINKS: Mapping[str, Mapping[str, str]] = {
    "onnx": {"onnx/model_int8.onnx": "onnx/model_quantized.onnx"},
    "root": {"model_int8.onnx": "model_quantized.onnx"},
    "both": {
        "onnx/model_int8.onnx": "onnx/model_quantized.onnx",
        "model.onnx": "onnx/model.onnx",
        "model_int8.onnx": "onnx/model_quantized.onnx",
        "model_fp16.onnx": "onnx/model_fp16.onnx",
    },
}
GRAPHS: Mapping[str, set[str]] = {
    "onnx": INSIDE,
    "root": {name.removeprefix("onnx/") for name in INSIDE},
    "both": {*INSIDE, "model.onnx", "model_int8.onnx", "model_fp16.onnx"},
}
TEXTS = ["from Delhi to Agra by bus", "two", "A third text, of words."]

for_each = pytest.mark.parametrize
every_family = for_each("family", BUILDERS)
every_layout = for_each("layout", LINKS)


@cache
def checkpoint(family: str) -> Path:
    return BUILDERS[family](workshop() / f"layouts-{family}" / "model")


@cache
def laid_out(family: str, layout: str) -> Converted:
    source = checkpoint(family)
    return converted(
        source,
        layout=layout,
        output_dir=str(source.parent / layout),
        quantize=["QInt8", "Float16"],
    )


@cache
def with_external_data(family: str, layout: str) -> Converted:
    """Return a conversion with tensors outside the graph, as exported beyond 2 GB."""
    source = checkpoint(family)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")
        return converted(source, layout=layout, output_dir=str(source.parent / f"data-{layout}"))


def answers(folder: Path, file_name: str | None = None) -> npt.NDArray[Any]:
    """Return what the runtime answers for ``TEXTS``, whatever the family."""
    model: Any = load(folder, file_name, threads=1)
    if model.family == "token_classification":
        return np.array([tag for text in TEXTS for _, tag in model.tags(text)])
    if model.family == "colbert":
        return np.concatenate([*model.encode_queries(TEXTS), *model.encode_documents(TEXTS)])
    return np.asarray(model.encode(TEXTS))


def planned(family: str, **options: Any) -> tuple[set[str], Mapping[str, str]]:
    """Return the files that a conversion would write, and further names of them."""
    plan = convert.decide(ConversionArguments(model_id=str(checkpoint(family)), **options))
    return set(plan.files.values()), plan.links


@every_family
@every_layout
def test_graphs_stand_where_the_layout_says_and_nowhere_else(family: str, layout: str) -> None:
    result = laid_out(family, layout)
    assert set(result.graphs) == GRAPHS[layout]
    assert (result.folder / "onnx").exists() is (layout != "root")


@every_family
@every_layout
def test_every_other_name_is_a_hard_link_that_the_record_tells(family: str, layout: str) -> None:
    result = laid_out(family, layout)
    record = result.json("conversion.json")
    assert record["links"] == LINKS[layout]
    assert set(record["files"]) == GRAPHS[layout] - set(LINKS[layout])
    for name, file in LINKS[layout].items():
        assert (result.folder / name).samefile(result.folder / file), name
    for file in record["files"]:
        names = 1 + list(LINKS[layout].values()).count(file)
        assert (result.folder / file).stat().st_nlink == names, file


@every_family
def test_the_runtime_answers_alike_in_every_layout(family: str) -> None:
    expected = answers(laid_out(family, "onnx").folder)
    rounded = answers(laid_out(family, "onnx").folder, "model_quantized.onnx")
    for layout in LINKS:
        folder = laid_out(family, layout).folder
        assert np.array_equal(answers(folder), expected)
        assert np.array_equal(answers(folder, "model.onnx"), expected)
        assert np.array_equal(answers(folder, "model_int8.onnx"), rounded)


@every_family
def test_unset_the_layout_is_the_family_s(family: str) -> None:
    usual = "both" if family == "colbert" else "onnx"
    options = {"quantize": ["QInt8", "Float16"]}
    assert planned(family, **options) == planned(family, layout=usual, **options)
    assert planned(family, **options) == (
        GRAPHS[usual] - set(LINKS[usual]),
        LINKS[usual],
    )


@for_each(
    ("layout", "files", "links"),
    [
        ("root", {"model.onnx", "model_opt2_Float32.onnx", "model_opt2_QInt8.onnx"}, {}),
        (
            "both",
            {"onnx/model.onnx", "onnx/model_opt2_Float32.onnx", "onnx/model_opt2_QInt8.onnx"},
            {
                "model.onnx": "onnx/model.onnx",
                "model_opt2_QInt8.onnx": "onnx/model_opt2_QInt8.onnx",
            },
        ),
    ],
)
def test_names_by_level_have_no_second_name_but_the_root_s(
    layout: str, files: set[str], links: Mapping[str, str]
) -> None:
    options = {"file_naming": "opt_level", "optimize": 2, "quantize": ["QInt8"]}
    assert planned("embedding", layout=layout, **options) == (files, links)


@for_each(
    ("layout", "links"),
    [
        ("onnx", {"onnx/model_uint8.onnx": "onnx/model_quantized.onnx"}),
        ("root", {"model_uint8.onnx": "model_quantized.onnx"}),
        (
            "both",
            {
                "onnx/model_uint8.onnx": "onnx/model_quantized.onnx",
                "model.onnx": "onnx/model.onnx",
                "model_uint8.onnx": "onnx/model_quantized.onnx",
                "model_int8.onnx": "onnx/model_int8.onnx",
            },
        ),
    ],
)
def test_the_first_8_bit_precision_has_the_general_name_beside_its_own(
    layout: str, links: Mapping[str, str]
) -> None:
    options = {"layout": layout, "quantize": ["QUInt8", "QInt8"]}
    assert planned("embedding", **options)[1] == links


@for_each("family", ["embedding", "colbert"])
@for_each("layout", ["root", "both"])
def test_external_data_lies_once_where_every_name_of_its_graph_finds_it(
    family: str, layout: str
) -> None:
    result = with_external_data(family, layout)
    place = "" if layout == "root" else "onnx/"
    data = {f"{place}model.onnx_data", f"{place}model_opt1.onnx_data"}
    assert {name for name in files_of(result.folder) if name.endswith("_data")} == data
    assert {(result.folder / name).stat().st_nlink for name in data} == {1}
    found = {e.value for t in result.graph("model.onnx").graph.initializer for e in t.external_data}
    assert f"{place}model.onnx_data" in found
    declared = result.json("config.json")["transformers.js_config"]["use_external_data_format"]
    assert declared == {"model.onnx": True, "model_opt1.onnx": True}


@for_each("family", ["embedding", "colbert"])
@for_each("layout", ["root", "both"])
def test_onnx_loads_a_graph_with_external_data_under_every_name(family: str, layout: str) -> None:
    result = with_external_data(family, layout)
    portable = onnx.load(result.folder / min(result.graphs))
    for name in result.graphs:
        read = onnx.load(result.folder / name)
        assert read == portable or "opt1" in name


@for_each("family", ["embedding", "colbert"])
def test_a_second_name_with_external_data_may_be_published(family: str) -> None:
    folder = shutil.copytree(
        with_external_data(family, "both").folder, workshop() / f"pub-{family}"
    )
    check_folder(folder, unvalidated=True)
    changed = onnx.load(folder / "model.onnx", load_external_data=False)
    changed.graph.node[0].name = "another"
    onnx.save(changed, folder / "model.onnx")
    with pytest.raises(InputError, match="has changed since it was measured"):
        check_folder(folder, unvalidated=True)


@for_each("family", ["embedding", "colbert"])
@for_each("layout", ["root", "both"])
def test_a_graph_with_external_data_loads_under_every_name(family: str, layout: str) -> None:
    expected = answers(laid_out(family, "onnx").folder)
    result = with_external_data(family, layout)
    assert "model.onnx" in result.graphs
    for name in result.graphs:
        np.testing.assert_allclose(answers(result.folder, name), expected, atol=1e-5)


def tei_graph(folder: Path) -> Path:
    """Return the graph that text-embeddings-inference takes: the root's before that of onnx/."""
    names = ("model.onnx", "onnx/model.onnx")
    return next(folder / name for name in names if (folder / name).exists())


@every_family
@every_layout
def test_tei_finds_the_portable_graph(family: str, layout: str) -> None:
    folder = laid_out(family, layout).folder
    found = tei_graph(folder)
    assert found.samefile(folder / ("model.onnx" if layout == "root" else "onnx/model.onnx"))
    outputs = {value.name for value in onnxruntime.InferenceSession(found).get_outputs()}
    assert outputs & {"sentence_embedding", "logits", "token_embeddings"}


@every_layout
def test_sentence_transformers_gives_its_own_vectors_whichever_graph_it_takes(layout: str) -> None:
    folder = laid_out("embedding", layout).folder
    model = SentenceTransformer(str(folder), backend="onnx", device="cpu")
    place = folder / "onnx" if layout == "onnx" else folder
    assert Path(model[0].auto_model.path) == place / "model.onnx"
    expected = SentenceTransformer(str(checkpoint("embedding")), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-4)


def test_optimum_gives_the_same_from_the_root_and_from_onnx() -> None:
    folder = laid_out("embedding", "both").folder
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="np")
    named = {"subfolder": "onnx", "file_name": "model.onnx"}
    models = [ORTModelForFeatureExtraction.from_pretrained(folder, **kw) for kw in ({}, named)]
    assert [Path(model.path) for model in models] == [
        folder / "model.onnx",
        folder / "onnx" / "model.onnx",
    ]
    one, other = (model(**inputs).last_hidden_state for model in models)
    assert np.array_equal(one, other)
