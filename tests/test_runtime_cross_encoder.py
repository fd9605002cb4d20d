"""The runtime scores, ranks and classifies as sentence-transformers and transformers do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from agreement import ALL_TEXTS, FP32_TOLERANCE, LONGEST
from converted import Converted, change_json
from cross_encoder_checkpoints import (
    ARCHITECTURES,
    INFERENCE,
    LISTS,
    PAIRS,
    QUERIES,
    SENTIMENT,
    classifier,
    original,
    reranker,
)
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from retort.errors import InputError
from retort.runtime import CrossEncoderModel, LabelScore, load
from retort.runtime.activations import sigmoid

SHORT = [text for text in ALL_TEXTS if 20 < len(text) < 200][:6]
for_each = pytest.mark.parametrize


def ranker() -> Converted:
    return reranker("bert")


def sentiment() -> Converted:
    return classifier("bert", SENTIMENT)


def decoder() -> Converted:
    return classifier("qwen3", INFERENCE)


def opened(result: Converted, file_name: str | None = None) -> CrossEncoderModel:
    model = load(result.folder, file_name, threads=1)
    assert isinstance(model, CrossEncoderModel)
    return model


def changed(result: Converted, folder: Path, **config: object) -> CrossEncoderModel:
    """Open a copy of a folder, its ``config.json`` changed; None takes a key away."""
    shutil.copytree(result.folder, folder, copy_function=shutil.copyfile)
    change_json(folder / "config.json", **config)
    return opened(Converted(result.checkpoint, folder))


@for_each("architecture", ARCHITECTURES)
def test_scores_equal_those_of_cross_encoder_in_any_batch(architecture: str) -> None:
    result = reranker(architecture)
    pairs = [*PAIRS[:20], ("", "short"), (LONGEST, "short"), ("short", LONGEST), (LONGEST, LONGEST)]
    expected = original(result.checkpoint).predict(pairs)
    model = opened(result)
    for batch_size in (1, 7):
        scores = model.predict(pairs, batch_size=batch_size)
        assert (scores.dtype, scores.shape) == (np.float32, (len(pairs),))
        np.testing.assert_allclose(scores, expected, atol=FP32_TOLERANCE)


@for_each("architecture", ARCHITECTURES)
def test_documents_are_ranked_as_cross_encoder_ranks_them(architecture: str) -> None:
    result = reranker(architecture)
    theirs = original(result.checkpoint).rank(QUERIES[0], LISTS[0], return_documents=True)
    ours = opened(result).rank(QUERIES[0], LISTS[0], return_documents=True)
    told = [(found["corpus_id"], found["text"]) for found in ours]
    assert told == [(found["corpus_id"], found["text"]) for found in theirs]
    scores = [found["score"] for found in ours]
    assert scores == pytest.approx([found["score"] for found in theirs], abs=FP32_TOLERANCE)


def test_a_ranking_may_be_cut_and_goes_without_texts_unless_they_are_asked_for() -> None:
    model = opened(ranker())
    whole = model.rank(QUERIES[0], LISTS[0])
    assert all(set(found) == {"corpus_id", "score"} for found in whole)
    best = model.rank(QUERIES[0], LISTS[0], top_k=3)
    assert [found["corpus_id"] for found in best] == [found["corpus_id"] for found in whole[:3]]
    assert json.loads(json.dumps(best)) == best
    assert model.rank("a query", []) == []


def test_documents_of_one_score_stay_in_order() -> None:
    ranked = opened(ranker()).rank("a query", ["the same"] * 5)
    assert [found["corpus_id"] for found in ranked] == [0, 1, 2, 3, 4]


def test_one_pair_gives_one_score_and_no_pairs_give_none() -> None:
    theirs, model = original(ranker().checkpoint), opened(ranker())
    for pair in (("a query", "a document"), ["a query", "a document"]):
        score = model.predict(pair)
        assert score.shape == ()
        assert score == pytest.approx(theirs.predict(pair), abs=FP32_TOLERANCE)
    assert model.predict([]).shape == (0,)
    assert opened(sentiment()).predict([]).shape == (0, 2)


def test_several_labels_give_their_logits_as_cross_encoder_does() -> None:
    result = classifier("deberta-v2", INFERENCE)
    expected = original(result.checkpoint).predict(PAIRS[:8])
    np.testing.assert_allclose(opened(result).predict(PAIRS[:8]), expected, atol=FP32_TOLERANCE)
    probabilities = CrossEncoder(str(result.checkpoint)).predict(PAIRS[:8], apply_softmax=True)
    actual = opened(result).predict(PAIRS[:8], activation="softmax")
    np.testing.assert_allclose(actual, probabilities, atol=FP32_TOLERANCE)


@for_each(
    ("name", "layer"),
    [
        ("identity", torch.nn.Identity),
        ("sigmoid", torch.nn.Sigmoid),
        ("tanh", torch.nn.Tanh),
        ("relu", torch.nn.ReLU),
    ],
)
@for_each("key", ["sentence_transformers", "sbert_ce_default_activation_function"])
def test_the_activation_is_the_checkpoint_s_and_another_can_be_asked_for(
    name: str, layer: type[torch.nn.Module], key: str, tmp_path: Path
) -> None:
    result = ranker()
    theirs = CrossEncoder(str(result.checkpoint), activation_fn=layer())
    expected = theirs.predict(PAIRS[:20])
    path = f"{layer.__module__}.{layer.__qualname__}"
    said = {"activation_fn": path} if key == "sentence_transformers" else path
    model = changed(result, tmp_path / "folder", **{key: said})
    assert model.activation == name
    np.testing.assert_allclose(model.predict(PAIRS[:20]), expected, atol=FP32_TOLERANCE)
    asked = opened(result).predict(PAIRS[:20], activation=name)
    np.testing.assert_allclose(asked, expected, atol=FP32_TOLERANCE)


def test_the_sigmoid_of_a_logit_far_below_zero_is_still_told_apart() -> None:
    logits = np.array([-1000, -60, -59, 0, 60], dtype=np.float32)
    expected = torch.sigmoid(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(sigmoid(logits), expected, rtol=1e-6)
    assert sigmoid(logits)[1] < sigmoid(logits)[2]


def test_an_activation_that_the_runtime_lacks_is_told_once_it_is_needed(tmp_path: Path) -> None:
    settings = {"activation_fn": "torch.nn.modules.activation.CELU"}
    model = changed(ranker(), tmp_path / "folder", sentence_transformers=settings)
    with pytest.raises(InputError, match="no activation is called 'celu': choose from identity"):
        model.predict(("a", "b"))
    assert model.predict(("a", "b"), activation="identity").shape == ()
    with pytest.raises(InputError, match="no activation is called 'max'"):
        model.predict(("a", "b"), activation="max")


def transformers_pipeline(task: str, checkpoint: Path, **config: Any) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, **config)
    return pipeline(task, model=model, tokenizer=AutoTokenizer.from_pretrained(checkpoint))


def same(ours: Sequence[LabelScore], theirs: Sequence[dict[str, Any]]) -> None:
    assert [found.label for found in ours] == [found["label"] for found in theirs]
    scores = [found["score"] for found in theirs]
    assert [found.score for found in ours] == pytest.approx(scores, abs=FP32_TOLERANCE)


@for_each(
    "problem", [None, "single_label_classification", "multi_label_classification", "regression"]
)
@for_each("made", [sentiment, decoder, ranker])
def test_labels_and_scores_are_those_of_the_text_classification_pipeline(
    made: Callable[[], Converted], problem: str | None, tmp_path: Path
) -> None:
    result = made()
    theirs = transformers_pipeline("text-classification", result.checkpoint, problem_type=problem)
    model = changed(result, tmp_path / "folder", problem_type=problem)
    batch = model.classify_batch(SHORT, batch_size=4)
    for text, found in zip(SHORT, batch, strict=True):
        same(found, theirs(text, top_k=None))
    pair = {"text": SHORT[0], "text_pair": SHORT[1]}
    same(model.classify((SHORT[0], SHORT[1])), theirs(pair, top_k=None))


def test_texts_and_pairs_may_stand_together() -> None:
    model = opened(sentiment())
    together = model.classify_batch(["one", ("one", "two"), ["three", "four"]])
    alone = [model.classify(row) for row in ("one", ("one", "two"), ("three", "four"))]
    for ours, expected in zip(together, alone, strict=True):
        same(ours, [{"label": found.label, "score": found.score} for found in expected])


@for_each("multi_label", [False, True])
@for_each("labels", [["travel", "cooking", "dancing"], ["travel"]])
def test_zero_shot_labels_are_those_of_the_pipeline(labels: list[str], multi_label: bool) -> None:
    result = classifier("deberta-v2", INFERENCE)
    theirs = transformers_pipeline("zero-shot-classification", result.checkpoint)
    for text in (*SHORT, LONGEST):
        for template in ("This example is {}.", "{} is what this is about"):
            expected = theirs(text, labels, hypothesis_template=template, multi_label=multi_label)
            ours = opened(result).zero_shot(
                text, labels, template=template, multi_label=multi_label
            )
            assert [found.label for found in ours] == expected["labels"]
            scores = [found.score for found in ours]
            assert scores == pytest.approx(expected["scores"], abs=FP32_TOLERANCE)


@for_each("made", [ranker, sentiment])
def test_zero_shot_needs_a_label_of_entailment(made: Callable[[], Converted]) -> None:
    with pytest.raises(InputError, match="none is entailment"):
        opened(made()).zero_shot("text", ["label"])


@for_each(("labels", "template"), [([], "{}"), (["one"], "nothing to fill")])
def test_zero_shot_needs_labels_and_a_place_for_them(labels: list[str], template: str) -> None:
    model = opened(classifier("deberta-v2", INFERENCE))
    with pytest.raises(InputError, match="at least one label, and a template with"):
        model.zero_shot("text", labels, template=template)


def test_a_checkpoint_reads_pairs_if_it_ranks_or_infers() -> None:
    assert opened(ranker()).reads_pairs
    assert opened(classifier("deberta-v2", INFERENCE)).reads_pairs
    assert not opened(sentiment()).reads_pairs


def test_several_labels_do_not_rank() -> None:
    with pytest.raises(InputError, match="has 2 labels, and documents are ranked by one"):
        opened(sentiment()).rank("query", ["document"])


@for_each(
    "pairs", ["text", b"ab", None, ["a", "b", "c"], ["a"], [("a",)], [("a", 1)], [("a", "b"), "ab"]]
)
def test_what_is_not_pairs_is_refused(pairs: object) -> None:
    with pytest.raises(InputError, match="pair"):
        opened(ranker()).predict(pairs)  # type: ignore[arg-type]


def test_what_cannot_be_used_is_told() -> None:
    model = opened(ranker())
    for call in (
        lambda: model.rank("query", ["document"], top_k=0),
        lambda: model.rank(None, ["document"]),  # type: ignore[arg-type]
        lambda: model.rank("query", [None]),  # type: ignore[list-item]
        lambda: model.classify(3),  # type: ignore[arg-type]
        lambda: model.classify_batch("text"),
        lambda: model.predict([("a", "b")], batch_size=0),
        lambda: model.predict([("a", "half \ud800")]),
    ):
        with pytest.raises(InputError):
            call()


def test_a_graph_of_undeclared_family_is_known_by_its_logits(tmp_path: Path) -> None:
    source = sentiment()
    shutil.copytree(source.folder, tmp_path / "foreign", copy_function=shutil.copyfile)
    (tmp_path / "foreign" / "conversion.json").unlink()
    path = tmp_path / "foreign" / "onnx" / "model.onnx"
    graph = onnx.load(path)
    del graph.metadata_props[:]
    onnx.save(graph, path)
    config = json.loads((tmp_path / "foreign" / "config.json").read_text(encoding="utf-8"))
    del config["id2label"]
    (tmp_path / "foreign" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = opened(Converted(source.checkpoint, tmp_path / "foreign"))
    assert model.labels == ("LABEL_0", "LABEL_1")
    expected = opened(source).predict(("a", "b"))
    np.testing.assert_allclose(model.predict(("a", "b")), expected, atol=FP32_TOLERANCE)


def test_labels_that_do_not_fit_the_graph_are_told(tmp_path: Path) -> None:
    model = changed(ranker(), tmp_path / "folder", id2label={"0": "no", "1": "yes"})
    with pytest.raises(InputError, match=r"gives 1 logits, but config\.json names 2 labels"):
        model.predict(("a", "b"))


def test_ranking_imports_no_torch() -> None:
    script = (
        "import sys; from retort.runtime import load; load(sys.argv[1]).rank('query', ['a', 'b']); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(ranker().folder)]
    assert subprocess.run(command, check=False).returncode == 0
