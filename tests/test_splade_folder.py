"""What SPLADE folders hold beside the graphs, what --verify tells, and what is refused."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from converted import Converted, change_json, converted
from local_models import resolved
from splade_checkpoints import build_splade
from splade_references import (
    ALL_OUTPUTS,
    FP32_FILES,
    inference_free,
    plain,
    sparse_encoder,
    splade,
)
from tiny_checkpoints import build_encoder

import convert
from onnx_configs import choose_family, families
from onnx_configs.base import TEXT_INPUTS
from retort.arguments import ExportArguments
from retort.card.facts import GraphFile
from retort.errors import FidelityError, InputError
from retort.references.sparse import SparseReference
from retort.stages.verify import verify

FAMILY = families()["splade"]


def test_a_masked_language_model_is_an_embedding_model_until_splade_is_named() -> None:
    checkpoint = resolved(plain().checkpoint)
    assert choose_family(checkpoint, ExportArguments()).name == "embedding"
    assert choose_family(checkpoint, ExportArguments(family="splade")).name == "splade"


@pytest.mark.parametrize(
    "outputs", [["logits"], ["sparse_vector", "weights"], ["sparse_vector", "sparse_vector"]]
)
def test_outputs_that_are_unknown_or_cannot_be_checked_are_refused(outputs: list[str]) -> None:
    checkpoint = resolved(splade("bert").checkpoint)
    with pytest.raises(InputError, match=r"--splade_outputs .*: choose from logits, output_idx"):
        FAMILY.check(checkpoint, ExportArguments(splade_outputs=outputs))


def test_a_pooling_is_refused() -> None:
    with pytest.raises(InputError, match="--pooling is for embedding, and this is splade"):
        choose_family(resolved(splade("bert").checkpoint), ExportArguments(pooling="mean"))


def test_unknown_poolings_and_modules_after_them_are_refused(tmp_path: Path) -> None:
    folder = build_splade(tmp_path / "checkpoint", "bert")
    change_json(folder / "1_SpladePooling/config.json", pooling_strategy="mean")
    with pytest.raises(InputError, match=r"1_SpladePooling/config.json: 'mean' of 'relu' is unkno"):
        FAMILY.check(resolved(folder), ExportArguments())
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({**modules[1], "idx": 2, "type": "sentence_transformers.models.Normalize"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(InputError, match="MLMTransformer, SpladePooling, Normalize"):
        FAMILY.check(resolved(folder), ExportArguments())


def test_a_checkpoint_without_a_masked_lm_head_is_refused(tmp_path: Path) -> None:
    checkpoint = build_encoder(tmp_path / "encoder", "bert")
    with pytest.raises(InputError, match=r"the weights lack cls\..*choose another --family"):
        converted(checkpoint, family="splade")


@pytest.mark.parametrize("conversion", [lambda: splade("bert"), lambda: splade("roberta")])
def test_the_vocabulary_has_one_token_on_each_line_by_id(
    conversion: Callable[[], Converted],
) -> None:
    result = conversion()
    expected = sparse_encoder(result.checkpoint).tokenizer.get_vocab()
    for name in ("vocab.txt", f"{result.checkpoint.name}-vocab.txt"):
        lines = (result.folder / name).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        assert {token: index for index, token in enumerate(lines)} == expected


def fp32_file(name: str, outputs: Sequence[str]) -> GraphFile:
    """Return what a card is told of a graph."""
    return GraphFile(name, "fp32", TEXT_INPUTS, tuple(outputs))


@pytest.mark.parametrize(("architecture", "told"), [("bert", True), ("distilbert", False)])
def test_the_log_says_where_anserini_looks_for_the_models_that_it_runs(
    architecture: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = resolved(splade(architecture).checkpoint)
    with caplog.at_level(logging.INFO):
        FAMILY.card(checkpoint, [fp32_file("onnx/model.onnx", ALL_OUTPUTS)])
    graph = f'cp "onnx/model.onnx" ~/.cache/pyserini/encoders/{checkpoint.name}.onnx'
    assert (graph in caplog.text) == told
    vocabulary = f'cp "{checkpoint.name}-vocab.txt" ~/.cache/pyserini/encoders/'
    assert (vocabulary in caplog.text) == told


def test_the_log_names_the_graph_where_it_is_and_only_one_with_anserini_s_outputs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    checkpoint = resolved(splade("bert").checkpoint)
    with caplog.at_level(logging.INFO):
        FAMILY.card(checkpoint, [fp32_file("onnx/model.onnx", ["sparse_vector"])])
        assert "Anserini" not in caplog.text
        FAMILY.card(checkpoint, [fp32_file("model.onnx", ALL_OUTPUTS)])
    assert 'cp "model.onnx" ~/.cache/pyserini/encoders/' in caplog.text


def test_queries_without_a_model_find_the_weights_of_their_table() -> None:
    table = sparse_encoder(inference_free().checkpoint)[0].sub_modules["query"][0]
    written = inference_free().json("query_weights.json")
    ids = table.tokenizer.get_vocab()
    weights = np.zeros(len(ids), np.float32)
    weights[[ids[token] for token in written["weights"]]] = list(written["weights"].values())
    np.testing.assert_array_equal(weights, table.weight.detach().numpy())
    assert written["max_length"] == table.tokenizer.model_max_length
    assert written["default_route"] == "document"


def told(result: Converted, files: Sequence[str], exact: Sequence[str]) -> list[str]:
    checkpoint = resolved(result.checkpoint)
    reference = SparseReference(checkpoint, 48, ALL_OUTPUTS)
    return list(verify(result.folder, files, FAMILY, reference, ["what is AI?"], exact=exact))


def test_verify_tells_terms_and_anserini_s_difference_of_each_file() -> None:
    quantized = "onnx/model_opt1_QInt8.onnx"
    lines = told(splade("bert"), [*FP32_FILES, quantized], FP32_FILES)
    assert lines[0] == "what is AI?"
    assert lines[1] == f"  {', '.join(FP32_FILES)} (as PyTorch):"
    assert re.fullmatch(r"    \d+ terms: (\S+ \d\.\d\d, ){10}…", lines[2])
    name = "mean L1 difference of logits after ReLU"
    differences = [line for line in lines if name in line]
    assert [line.split(":")[0].strip() for line in differences] == [*FP32_FILES, quantized]
    values = [float(line.rpartition(" ")[2]) for line in differences]
    assert max(values[:2]) < 1e-5 < values[2]


def test_verify_refuses_an_fp32_file_that_is_far_from_pytorch(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(splade("bert").folder, folder)
    spoiled = Converted(splade("bert").checkpoint, folder)
    model = onnx.load(folder / FP32_FILES[0])
    bias = next(
        tensor for tensor in model.graph.initializer if tensor.name.endswith("cls.predictions.bias")
    )
    raised = onnx.numpy_helper.to_array(bias) + 5
    bias.CopyFrom(onnx.numpy_helper.from_array(raised, bias.name))
    onnx.save(model, folder / FP32_FILES[0])
    assert "unlike PyTorch" in told(spoiled, FP32_FILES[:1], [])[1]
    with pytest.raises(
        FidelityError, match=r"model.onnx: mean L1 .* for 'what is AI\?', more than"
    ):
        told(spoiled, FP32_FILES[:1], FP32_FILES)


def test_a_conversion_without_logits_is_validated_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = build_splade(tmp_path / "checkpoint", "bert", pooling="sum")
    options = ["--model_id", str(checkpoint), "--output_dir", str(tmp_path / "out")]
    options += ["--splade_outputs", "sparse_vector,output_idx,output_weights"]
    assert convert.main([*options, "--optimize", "0", "--verify_text", "what is AI?"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "  onnx/model.onnx (as PyTorch):"
    assert "onnx/model.onnx: mean L1 difference of sparse_vector after ReLU" in told[3]
    record = json.loads((tmp_path / "out/conversion.json").read_text(encoding="utf-8"))
    (row,) = record["validation"]["files"]
    assert row["fidelity_min"] > 0.99999
    assert row["largest_difference"] < 1e-4
