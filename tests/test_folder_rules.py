"""The rules for the files beside the graphs of a converted folder, which its readers need."""

from __future__ import annotations

import json

import pytest
from converted import (
    EVERY,
    LICENSE,
    TAGGERS,
    Conversion,
    files_of,
    left_sided,
    minilm,
    named_by_level,
    old_layout,
    projected,
    tagger,
)
from tiny_checkpoints import LABELS

MINILM_FILES = {
    "1_Pooling/config.json",
    "LICENSE",
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "conversion.json",
    "modules.json",
    "onnx/model.onnx",
    "onnx/model_fp16.onnx",
    "onnx/model_int8.onnx",
    "onnx/model_opt1.onnx",
    "onnx/model_quantized.onnx",
    "onnx/model_uint8.onnx",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
}

for_each = pytest.mark.parametrize


def test_a_folder_holds_what_its_readers_need_and_nothing_else() -> None:
    assert files_of(minilm().folder) == MINILM_FILES


@for_each(
    ("conversion", "length"),
    [(minilm, 256), (projected, 48), (old_layout, 48), (tagger, 128), (named_by_level, 128)],
)
def test_the_tokenizer_tells_the_length_that_the_model_takes(
    conversion: Conversion, length: int
) -> None:
    settings = conversion().json("tokenizer_config.json")
    assert settings["model_max_length"] == length
    assert settings.get("max_length", length) == length


def test_what_transformers_saves_of_the_last_call_is_gone() -> None:
    path = projected().checkpoint / "tokenizer_config.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    assert before["max_length"] == 12
    settings = projected().json("tokenizer_config.json")
    assert settings["max_length"] == 48
    assert not {"stride", "pad_to_multiple_of"} & set(settings)


@for_each("conversion", [minilm, projected, left_sided])
def test_truncation_and_padding_baked_into_the_tokenizer_are_gone(conversion: Conversion) -> None:
    path = conversion().checkpoint / "tokenizer.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    assert before["truncation"], "the test needs truncation baked into the checkpoint's tokenizer"
    assert before["padding"], "the test needs padding baked into the checkpoint's tokenizer"
    after = conversion().json("tokenizer.json")
    assert after == before | {"truncation": None, "padding": None}


def test_the_sides_and_the_padding_token_that_were_baked_in_are_told_elsewhere() -> None:
    settings = left_sided().json("tokenizer_config.json")
    told = {key: settings.get(key) for key in ("padding_side", "truncation_side", "pad_token")}
    assert told == {
        "padding_side": "left",
        "truncation_side": "left",
        "pad_token": "<|endoftext|>",
    }


@for_each(
    "name",
    [
        "1_Pooling/config.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    ],
)
def test_what_readers_need_beside_the_graph_is_carried_unchanged(name: str) -> None:
    carried = (minilm().folder / name).read_bytes()
    assert carried == (minilm().checkpoint / name).read_bytes()


@for_each(("conversion", "name"), [(minilm, "LICENSE"), (tagger, "license.txt")])
def test_the_licence_goes_along_however_its_name_is_written(
    conversion: Conversion, name: str
) -> None:
    assert (conversion().folder / name).read_text(encoding="utf-8") == LICENSE


@for_each("conversion", EVERY)
def test_the_weights_of_the_backbone_stay_behind(conversion: Conversion) -> None:
    assert (conversion().backbone / "model.safetensors").exists()
    assert not {"model.safetensors", "pytorch_model.bin"} & files_of(conversion().folder)


@for_each("conversion", EVERY)
def test_the_configuration_is_the_checkpoints_own(conversion: Conversion) -> None:
    before = json.loads((conversion().backbone / "config.json").read_text(encoding="utf-8"))
    assert before["architectures"], "consumers find the model's class by it"
    after = conversion().json("config.json")
    for config in (before, after):
        config.pop("transformers.js_config", None)
    assert after == before


@for_each("conversion", TAGGERS)
def test_the_labels_stand_in_the_configuration_and_in_files_of_their_own(
    conversion: Conversion,
) -> None:
    by_index = {str(index): label for index, label in enumerate(LABELS)}
    by_label = {label: index for index, label in enumerate(LABELS)}
    config = conversion().json("config.json")
    assert (config["id2label"], config["label2id"]) == (by_index, by_label)
    assert conversion().json("id2label.json") == by_index
    assert conversion().json("label2id.json") == by_label


def test_the_modules_after_the_backbone_keep_their_folders_and_weights() -> None:
    checkpoint, folder = projected().checkpoint, projected().folder
    modules = json.loads((checkpoint / "modules.json").read_text(encoding="utf-8"))
    assert projected().json("modules.json") == modules
    names = {module["path"] for module in modules}
    assert names == {"", "1_Pooling", "2_Dense", "3_Dense", "4_Normalize"}
    for name in sorted(names - {""}):
        for file in files_of(checkpoint / name):
            assert (folder / name / file).read_bytes() == (checkpoint / name / file).read_bytes()


def test_a_backbone_from_a_subfolder_stands_at_the_root() -> None:
    files = files_of(old_layout().folder)
    root = {"config.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"}
    assert root < files
    assert not any(name.startswith("0_Transformer") for name in files)
    assert [module["path"] for module in old_layout().json("modules.json")] == ["", "1_Pooling"]
