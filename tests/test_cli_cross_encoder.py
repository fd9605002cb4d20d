"""``retort encode`` on rerankers and classifiers: documents in order, labels with scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import retort_refused
from converted import Converted
from cross_encoder_checkpoints import INFERENCE, SENTIMENT, classifier, original, reranker

from retort import cli
from retort.runtime import CrossEncoderModel, load

QUERY = "what is it?"
DOCUMENTS = ["a short one, of sorts", "noch eines", "third"]


def encoded(
    capture: pytest.CaptureFixture[str], result: Converted, *options: str
) -> list[dict[str, Any]]:
    """Run the command, and return the JSON objects on stdout."""
    assert cli.main(["encode", str(result.folder), *options]) == 0
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def with_documents(*documents: str) -> list[str]:
    return [word for document in documents for word in ("--document", document)]


def test_documents_are_printed_best_first_with_their_scores(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = reranker("bert")
    lines = encoded(capsys, result, "--query", QUERY, *with_documents(*DOCUMENTS))
    expected = original(result.checkpoint).rank(QUERY, DOCUMENTS, return_documents=True)
    assert [line["query"] for line in lines] == [QUERY] * len(DOCUMENTS)
    for line, found in zip(lines, expected, strict=True):
        assert (line["corpus_id"], line["text"]) == (found["corpus_id"], found["text"])
        assert line["score"] == pytest.approx(found["score"], abs=1e-4)


def test_every_query_ranks_all_documents_and_top_k_cuts_each_ranking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(DOCUMENTS[1:]), encoding="utf-8")
    words = ["--query", "one", "--query", "two", "--text", DOCUMENTS[0], "--file", str(file)]
    lines = encoded(capsys, reranker("bert"), *words)
    assert [line["query"] for line in lines] == ["one"] * 3 + ["two"] * 3
    assert sorted(line["text"] for line in lines[:3]) == sorted(DOCUMENTS)
    best = encoded(capsys, reranker("bert"), *words, "--top_k", "1")
    assert best == [lines[0], lines[3]]


def test_texts_are_printed_with_their_labels_best_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = classifier("bert", SENTIMENT)
    lines = encoded(capsys, result, "--text", "a fine day", "--text", "rain")
    model = load(result.folder)
    assert isinstance(model, CrossEncoderModel)
    assert [line["text"] for line in lines] == ["a fine day", "rain"]
    for line in lines:
        expected = model.classify(line["text"])
        assert [found["label"] for found in line["labels"]] == [found.label for found in expected]
        scores = [found["score"] for found in line["labels"]]
        assert scores == pytest.approx([found.score for found in expected], abs=1e-4)


def test_pairs_of_a_classifier_are_printed_with_their_labels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = classifier("deberta-v2", INFERENCE)
    lines = encoded(capsys, result, "--query", QUERY, *with_documents(*DOCUMENTS[:2]))
    assert [(line["text"], line["text_pair"]) for line in lines] == [
        (QUERY, DOCUMENTS[0]),
        (QUERY, DOCUMENTS[1]),
    ]
    assert {found["label"] for found in lines[0]["labels"]} == set(INFERENCE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--text or --file"),
        (["--query", "a"], "a query and documents are scored together; give both"),
        (["--document", "a"], "a query and documents are scored together; give both"),
        (["--text", "a", "--pooling", "mean"], "--pooling is for"),
        (["--text", "a", "--threshold", "1"], "--threshold is for"),
        (["--text", "a", "--out", "scores.npz"], "--out is for embeddings"),
        (["--query", "a", "--document", "b", "--top_k", "0"], "top_k must be at least 1"),
        (["--text", "a", "--top_k", "0"], "--top_k is for SPLADE and for a reranker's documents"),
        (["--text", "a", "--top_k", "1"], "--top_k is for SPLADE and for a reranker's documents"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in retort_refused(capsys, "encode", reranker("bert").folder, *options)


def test_labels_are_all_printed_so_that_no_first_few_of_them_can_be_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--query", "a", "--document", "b", "--top_k", "1"]
    said = retort_refused(capsys, "encode", classifier("bert", SENTIMENT).folder, *options)
    assert "--top_k is for SPLADE and for a reranker's documents" in said
