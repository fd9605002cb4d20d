"""Checkpoints that say things in old, partial or careless ways are read as their library reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from converted import change_json, converted, files_of
from sentence_transformers import SentenceTransformer
from tiny_checkpoints import build_sentence_transformer, build_token_classifier

import convert
from retort.arguments import ConversionArguments
from retort.errors import FidelityError, InputError
from retort.fidelity import largest_difference, tag_agreement
from retort.graphs import onnx_file
from retort.graphs.session import open_session
from retort.json_files import read_json, write_json
from retort.report import FileReport, ValidationReport
from retort.runtime import load
from retort.stages.validate import require_agreement

TEXTS = ["Short.", "A text that is a good deal longer than the first one, for padding."]
POOLINGS = {
    "cls alone, so mean as well": {"pooling_mode_cls_token": True},
    "nothing, so mean": {},
    "a name in capitals": {"pooling_mode": "MAX"},
    "no name": {"pooling_mode": None, "pooling_mode_mean_tokens": True},
}


@pytest.mark.parametrize("settings", POOLINGS.values(), ids=POOLINGS.keys())
def test_a_pooling_is_read_as_sentence_transformers_reads_it(
    settings: dict[str, object], tmp_path: Path
) -> None:
    folder = build_sentence_transformer(tmp_path / "model", "bert")
    path = folder / "1_Pooling" / "config.json"
    write_json(path, {"word_embedding_dimension": 32, **settings})
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    model = load(converted(folder, optimize=0).folder)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)


def test_the_old_name_of_a_transformer_s_settings_is_known(tmp_path: Path) -> None:
    folder = build_sentence_transformer(tmp_path / "model", "roberta", max_seq_length=8)
    old = folder / "sentence_roberta_config.json"
    (folder / "sentence_bert_config.json").rename(old)
    result = converted(folder, optimize=0)
    assert result.json("tokenizer_config.json")["model_max_length"] == 8


def test_a_maximum_length_beyond_the_positions_is_cut_to_them(tmp_path: Path) -> None:
    folder = build_sentence_transformer(tmp_path / "model", "roberta")
    positions = read_json(folder / "config.json")["max_position_embeddings"]
    change_json(folder / "sentence_bert_config.json", max_seq_length=positions)
    arguments = ConversionArguments(
        model_id=str(folder), optimize=0, output_parent_dir=str(tmp_path / "out")
    )
    target = convert.convert(arguments).plan.target
    length = read_json(target / "tokenizer_config.json")["model_max_length"]
    assert length < positions
    assert load(target).encode("word " * positions).shape == (32,)


@pytest.mark.parametrize("path", ["./", "0_Transformer/", "0_Transformer"])
def test_a_backbone_s_path_may_be_spelled_carelessly(path: str, tmp_path: Path) -> None:
    folder = build_sentence_transformer(tmp_path / "model", "bert")
    if path != "./":
        (folder / "0_Transformer").mkdir()
        kept = {"1_Pooling", "2_Normalize", "0_Transformer", "modules.json"}
        for file in [f for f in folder.iterdir() if f.name not in kept]:
            shutil.move(file, folder / "0_Transformer" / file.name)
    modules = read_json(folder / "modules.json")
    modules[0]["path"] = path
    write_json(folder / "modules.json", modules)
    result = converted(folder, optimize=0)
    assert read_json(result.folder / "modules.json")[0]["path"] == ""
    assert not any("0_Transformer" in name for name in files_of(result.folder))


@pytest.mark.parametrize(
    "labels", [{"a": "O"}, ["O"], "O", {"0": "O", "5": "B-X"}], ids=["names", "list", "str", "gap"]
)
def test_labels_that_are_no_table_by_index_are_refused(labels: object, tmp_path: Path) -> None:
    folder = build_token_classifier(tmp_path / "model", "bert")
    change_json(folder / "config.json", id2label=labels, label2id={})
    with pytest.raises(InputError, match=r"config\.json"):
        convert.decide(ConversionArguments(model_id=str(folder)))


def test_a_poor_file_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    row = FileReport("f.onnx", "Q4", 1, 18, 8, {}, 0.5, 0.1, 1.0, "batch 1", (), 1.0)
    require_agreement(ValidationReport("PyTorch", "cosine", 1, (), (row,)))
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warning == "f.onnx: cosine is only 0.500"


def test_a_file_below_the_fidelity_asked_for_is_refused() -> None:
    row = FileReport("f.onnx", "Q4", 1, 18, 8, {}, 0.96, 0.9, 1.0, "batch 1", (), 1.0)
    report = ValidationReport("PyTorch", "cosine", 1, (), (row,))
    require_agreement(report, 0.95)
    with pytest.raises(FidelityError, match=r"f\.onnx: cosine is 0\.9600, less than .* 0\.97"):
        require_agreement(report, 0.97)


def test_a_file_that_gives_no_numbers_is_refused() -> None:
    row = FileReport("f.onnx", "Float16", 1, 18, 8, {}, 1.0, 1.0, float("inf"), "batch 1", (), 1.0)
    report = ValidationReport("PyTorch", "cosine", 1, (), (row,))
    with pytest.raises(FidelityError, match=r"f\.onnx: gives values that are not finite"):
        require_agreement(report)


def test_a_tag_of_a_value_that_is_no_number_agrees_with_nothing() -> None:
    mask = np.ones((1, 2), np.int64)
    expected = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    broken = np.full_like(expected, np.nan)
    assert tag_agreement(expected, expected, mask) == [1.0]
    assert tag_agreement(expected, broken, mask) == [0.0]
    assert largest_difference({"logits": expected}, {"logits": broken}, mask) == float("inf")


def test_a_graph_too_large_for_one_file_gets_external_data_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build_sentence_transformer(tmp_path / "model", "bert")
    monkeypatch.setattr(onnx_file, "LARGEST_SINGLE_FILE", 1000)
    result = converted(folder, quantize=["QInt8", "Float16"], optimize=0)
    half = result.folder / "onnx" / "model_fp16.onnx"
    assert half.with_name("model_fp16.onnx_data").is_file()
    assert onnx.load(half).graph.initializer
    names = result.json("config.json")["transformers.js_config"]["use_external_data_format"]
    assert names["model_fp16.onnx"] is True
    for name in ("model_fp16.onnx", "model_quantized.onnx"):
        open_session(result.folder / "onnx" / name)
