"""Every architecture's reranker agrees with CrossEncoder on every file, and classifiers do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from agreement import FP32_TOLERANCE, TEXTS, largest_difference, run_graph, session
from converted import Converted
from cross_encoder_checkpoints import (
    ARCHITECTURES,
    INFERENCE,
    PAIRS,
    SENTIMENT,
    Array,
    classifier,
    expected_logits,
    original,
    pair_cases,
    pearson,
    reranker,
    share_in_order,
)
from local_models import resolved

from onnx_configs import families
from onnx_configs.base import COUNTED_TOKENS
from retort.arguments import ConversionArguments
from retort.artifact import Artifact
from retort.runtime import load
from retort.stages.validate import load_reference, validate
from retort.texts import validation_texts

LEAST_CORRELATION = 0.999
LEAST_8_BIT_CORRELATION = 0.99
# Measured on these random models: at least 0.956 in 8 bits and 0.998 in 16.
LEAST_8_BIT_ORDER = 0.94
LEAST_16_BIT_ORDER = 0.99
FAMILY = families()["cross_encoder"]
for_each = pytest.mark.parametrize
every_architecture = for_each("architecture", ARCHITECTURES)


def graph_logits(result: Converted, name: str) -> Array:
    """Return a graph's logits of ``PAIRS``, which sentence-transformers tokenizes."""
    tokenizer = original(result.checkpoint).tokenizer
    batches = [PAIRS[start : start + 32] for start in range(0, len(PAIRS), 32)]
    inputs = [
        tokenizer(batch, padding=True, truncation=True, return_tensors="np") for batch in batches
    ]
    found = [run_graph(result.folder / name, dict(batch))["logits"] for batch in inputs]
    return np.concatenate(found)[:, 0]


@every_architecture
@for_each("name", ["onnx/model.onnx", "onnx/model_opt1.onnx"])
def test_the_fp32_files_give_the_logits_of_cross_encoder(architecture: str, name: str) -> None:
    result = reranker(architecture)
    path = result.folder / name
    assert [value.name for value in session(path).get_outputs()] == ["logits"]
    worst, where = largest_difference(path, pair_cases(result.checkpoint))
    assert worst <= FP32_TOLERANCE, where
    expected, actual = expected_logits(result.checkpoint), graph_logits(result, name)
    assert pearson(expected, actual) >= LEAST_CORRELATION
    assert share_in_order(expected, actual) == 1


@every_architecture
@for_each(
    ("name", "least_correlation", "least_order"),
    [
        ("onnx/model_quantized.onnx", LEAST_8_BIT_CORRELATION, LEAST_8_BIT_ORDER),
        ("onnx/model_fp16.onnx", LEAST_CORRELATION, LEAST_16_BIT_ORDER),
    ],
)
def test_the_small_files_keep_the_scores_and_the_order_of_documents(
    architecture: str, name: str, least_correlation: float, least_order: float
) -> None:
    result = reranker(architecture)
    expected, actual = expected_logits(result.checkpoint), graph_logits(result, name)
    assert pearson(expected, actual) >= least_correlation
    assert share_in_order(expected, actual) >= least_order


def test_signed_8_bit_weights_keep_the_scores_as_well() -> None:
    result = reranker("bert")
    actual = graph_logits(result, "onnx/model_int8.onnx")
    assert pearson(expected_logits(result.checkpoint), actual) >= LEAST_8_BIT_CORRELATION


@every_architecture
def test_token_types_are_an_input_where_the_architecture_has_them(architecture: str) -> None:
    inputs = {
        value.name
        for value in session(reranker(architecture).folder / "onnx/model.onnx").get_inputs()
    }
    typed = {"token_type_ids"} if architecture == "bert" else set()
    assert inputs == {"input_ids", "attention_mask"} | typed


def test_the_second_text_of_a_pair_is_told_by_its_token_types() -> None:
    path = reranker("bert").folder / "onnx/model.onnx"
    inputs = pair_cases(reranker("bert").checkpoint)[0].inputs
    assert inputs["token_type_ids"].any()
    untyped = {**inputs, "token_type_ids": np.zeros_like(inputs["token_type_ids"])}
    difference = run_graph(path, inputs)["logits"] - run_graph(path, untyped)["logits"]
    assert np.abs(difference).max() > 0.01


@for_each(
    ("architecture", "labels"),
    [
        ("bert", SENTIMENT),
        ("roberta", SENTIMENT),
        ("distilbert", SENTIMENT),
        ("xlm-roberta", INFERENCE),
        ("deberta-v2", INFERENCE),
        ("modernbert", INFERENCE),
        ("qwen3", INFERENCE),
    ],
)
def test_classifiers_give_a_logit_for_each_label_and_carry_their_names(
    architecture: str, labels: Sequence[str]
) -> None:
    result = classifier(architecture, labels)
    path = result.folder / "onnx" / "model.onnx"
    (output,) = session(path).get_outputs()
    assert (output.name, output.shape) == ("logits", ["batch_size", len(labels)])
    worst, where = largest_difference(path, pair_cases(result.checkpoint))
    assert worst <= FP32_TOLERANCE, where
    by_id = {str(index): label for index, label in enumerate(labels)}
    by_name = {label: index for index, label in enumerate(labels)}
    config = result.json("config.json")
    assert (config["id2label"], config["label2id"]) == (by_id, by_name)
    assert result.json("id2label.json") == by_id
    assert result.json("label2id.json") == by_name


def test_validation_compares_pairs_where_the_checkpoint_reads_pairs() -> None:
    bert = resolved(reranker("bert").checkpoint)
    pairs = load_reference(FAMILY, bert, ConversionArguments(model_id=""))
    tokens = pairs.tokenize([TEXTS[-1], "one two three four\tfive"], "right")
    assert pairs.library.startswith("sentence-transformers 5.")
    assert tokens["token_type_ids"].any(axis=1).all()
    assert (tokens["input_ids"] == original(bert.folder).tokenizer.sep_token_id).sum(
        axis=1
    ).tolist() == [2, 2]
    single = resolved(classifier("bert", SENTIMENT).checkpoint)
    texts = load_reference(FAMILY, single, ConversionArguments(model_id=""))
    assert not texts.tokenize(list(TEXTS), "right")["token_type_ids"].any()


def test_scores_read_at_padding_do_not_count() -> None:
    for architecture, counted in (("bert", 1), ("qwen3", 2)):
        checkpoint = resolved(reranker(architecture).checkpoint)
        reference = load_reference(FAMILY, checkpoint, ConversionArguments(model_id=""))
        for side, count in (("right", 2), ("left", counted)):
            inputs = reference.tokenize(["short one", "a text of several more words"], side)
            mask = inputs.get(COUNTED_TOKENS, inputs["attention_mask"])
            logits = reference.run(inputs)
            assert FAMILY.fidelity(logits, logits, mask).tolist() == pytest.approx([1] * count)


def test_fidelity_is_what_two_distributions_over_the_labels_share() -> None:
    mask = np.ones((2, 3), np.int64)
    one = {"logits": np.array([[0.0], [0.0]])}, {"logits": np.array([[0.0], [np.log(3)]])}
    assert FAMILY.fidelity(*one, mask).tolist() == pytest.approx([1, 0.75])
    three = np.log([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]), np.log([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])
    wanted, got = ({"logits": values} for values in three)
    assert FAMILY.fidelity(wanted, got, mask).tolist() == pytest.approx([1, 0.7])


def test_a_validated_reranker_tells_how_near_each_file_is() -> None:
    result = reranker("distilbert")
    checkpoint = resolved(result.checkpoint)
    arguments = ConversionArguments(model_id="")
    files = {
        name: Artifact(result.folder / name, "cross_encoder")
        for name in ("onnx/model.onnx", "onnx/model_quantized.onnx")
    }
    reference = load_reference(FAMILY, checkpoint, arguments)
    report = validate(files, FAMILY, reference, vocabulary=1000, progress=False)
    assert report.texts == len(validation_texts())
    assert report.fidelity_unit == "overlap of label probabilities"
    exact, small = report.files
    assert exact.largest_difference < FP32_TOLERANCE / 10
    assert exact.fidelity_min > 0.99999
    assert 0.97 < small.fidelity_mean < 1


def test_answers_to_a_text_are_its_score_as_a_pair_or_its_labels() -> None:
    ranks = load(reranker("bert").folder)
    score = original(reranker("bert").checkpoint).predict(("the query", "the document"))
    assert FAMILY.answers(ranks, "the query\tthe document") == [f"score: {score:.4f}"]
    (told,) = FAMILY.answers(ranks, "a query and its document")
    assert told.startswith("score: 0.")
    feels = load(classifier("bert", SENTIMENT).folder)
    answers = FAMILY.answers(feels, "a fine day")
    assert {line.partition(":")[0] for line in answers} == set(SENTIMENT)
