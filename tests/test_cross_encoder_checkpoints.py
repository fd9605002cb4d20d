"""What checkpoints of classifiers say, and which of them are refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from agreement import FP32_TOLERANCE, largest_difference
from converted import change_json, converted
from cross_encoder_checkpoints import build_classifier, pair_cases, reranker
from local_models import resolved
from tiny_checkpoints import build_encoder
from tiny_variants import REMOTE_CODE, REMOTE_MODULE

from onnx_configs import families
from retort.arguments import ConversionArguments
from retort.errors import InputError

FAMILY = families()["cross_encoder"]
IDENTITY = "torch.nn.modules.linear.Identity"
SEQUENCE_CODE = REMOTE_CODE.replace("BertModel", "BertForSequenceClassification").replace(
    "TinyRemoteModel", "TinyRemoteForSequenceClassification"
)
for_each = pytest.mark.parametrize


@for_each(
    ("said", "count"),
    [({}, 2), ({"num_labels": None}, 2), ({"num_labels": 1}, 1), ({"num_labels": 3}, 3)],
)
def test_labels_that_nothing_names_are_numbered_as_transformers_numbers_them(
    said: dict[str, int | None], count: int, tmp_path: Path
) -> None:
    labels = [f"LABEL_{index}" for index in range(count)]
    folder = build_classifier(tmp_path / "model", "bert", labels)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    unnamed = {key: value for key, value in config.items() if "label" not in key} | said
    path.write_text(json.dumps(unnamed), encoding="utf-8")
    settings = FAMILY.config_updates(resolved(folder))
    assert list(settings["id2label"].values()) == labels


@for_each(
    ("said", "told"),
    [
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "5.0.0"}}, "5.0.0"),
        ({"sbert_ce_default_activation_function": IDENTITY}, None),
    ],
)
def test_the_activation_is_where_cross_encoder_reads_it_since_version_4(
    said: dict[str, object], told: str | None, tmp_path: Path
) -> None:
    folder = build_classifier(tmp_path / "model", "bert", config=said)
    config = converted(folder, optimize=0).json("config.json")
    assert config["sentence_transformers"]["activation_fn"] == IDENTITY
    assert config["sentence_transformers"].get("version") == told
    assert {key: config[key] for key in said if key.startswith("sbert")} == {
        key: said[key] for key in said if key.startswith("sbert")
    }


def test_a_checkpoint_that_names_no_activation_gets_none() -> None:
    assert "sentence_transformers" not in reranker("bert").json("config.json")


def test_a_reranker_with_its_own_code_needs_the_flag_and_then_agrees(tmp_path: Path) -> None:
    folder = build_classifier(tmp_path / "model", "bert")
    (folder / f"{REMOTE_MODULE}.py").write_text(SEQUENCE_CODE, encoding="utf-8")
    change_json(
        folder / "config.json",
        model_type="tiny_remote",
        architectures=["TinyRemoteForSequenceClassification"],
        auto_map={
            "AutoConfig": f"{REMOTE_MODULE}.TinyRemoteConfig",
            "AutoModelForSequenceClassification": (
                f"{REMOTE_MODULE}.TinyRemoteForSequenceClassification"
            ),
        },
    )
    with pytest.raises(InputError, match="--trust_remote_code"):
        converted(folder)
    result = converted(folder, trust_remote_code=True)
    worst, where = largest_difference(
        result.folder / "onnx" / "model.onnx", pair_cases(reranker("bert").checkpoint)
    )
    assert worst <= FP32_TOLERANCE, where


def test_a_pooling_makes_no_sense_for_a_classifier() -> None:
    with pytest.raises(InputError, match="--pooling is for embedding"):
        converted(reranker("bert").checkpoint, pooling="mean")


def test_a_checkpoint_without_a_head_is_no_classifier_whatever_the_user_says(
    tmp_path: Path,
) -> None:
    folder = build_encoder(tmp_path / "model", "bert")
    with pytest.raises(InputError, match=r"the weights lack .*classifier"):
        converted(folder, family="cross_encoder")


def test_a_decoder_without_a_padding_token_is_refused(tmp_path: Path) -> None:
    folder = build_classifier(tmp_path / "model", "qwen3", config={"pad_token_id": None})
    with pytest.raises(InputError, match=r"qwen3 reads its score .* pad_token_id in config\.json"):
        converted(folder)
    folder = build_classifier(tmp_path / "other", "llama")
    change_json(folder / "tokenizer_config.json", pad_token=None)
    change_json(folder / "special_tokens_map.json", pad_token=None)
    with pytest.raises(InputError, match="no pad_token in its tokenizer; add it there"):
        converted(folder)


def test_a_decoder_that_pads_with_another_token_than_its_tokenizer_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = build_classifier(tmp_path / "model", "qwen3", config={"pad_token_id": 5})
    with caplog.at_level(logging.WARNING):
        FAMILY.check(resolved(folder), ConversionArguments(model_id=""))
    assert "pad_token_id is 5 in config.json and 0 in the tokenizer" in caplog.text


def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    folder = build_classifier(tmp_path / "model", "bert", config={"model_type": "bart"})
    with pytest.raises(InputError, match="bart has an encoder and a decoder"):
        converted(folder)


@for_each("count", [0, "two", 1.5])
def test_a_number_of_labels_that_is_none_is_refused(count: object, tmp_path: Path) -> None:
    folder = build_classifier(tmp_path / "model", "bert", config={"num_labels": count})
    with pytest.raises(InputError, match=r"config\.json: num_labels is"):
        FAMILY.check(resolved(folder), ConversionArguments(model_id=""))
