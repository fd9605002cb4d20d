"""``retort encode`` on a ColBERT folder: queries and documents, shapes and scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colbert_references import pair
from command_line import retort_refused
from converted import old_layout, tagger

from retort import cli

QUERIES = ["what is it?", "Wo ist es?"]
DOCUMENTS = ["a short one, of sorts", "noch eines"]


def words(**texts: list[str]) -> list[str]:
    """Return options that give each text."""
    return [word for kind, row in texts.items() for text in row for word in (f"--{kind}", text)]


def encoded(capture: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Run the command on ``bert``, and return the JSON objects on stdout."""
    assert cli.main(["encode", str(pair("bert").folder), *options]) == 0
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def test_each_text_has_a_line_with_its_shape_and_the_last_line_has_the_scores(
    capsys: pytest.CaptureFixture[str],
) -> None:
    *lines, last = encoded(capsys, *words(query=QUERIES, document=DOCUMENTS))
    model = pair("bert").ours
    queries, documents = model.encode_queries(QUERIES), model.encode_documents(DOCUMENTS)
    told = [("query", *row) for row in zip(QUERIES, queries, strict=True)]
    told += [("document", *row) for row in zip(DOCUMENTS, documents, strict=True)]
    assert lines == [
        {"kind": kind, "text": text, "shape": list(tokens.shape)} for kind, text, tokens in told
    ]
    assert list(last) == ["scores"]
    np.testing.assert_allclose(last["scores"], model.score(queries, documents), atol=1e-3)


def test_without_documents_there_are_no_scores(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = encoded(capsys, *words(query=QUERIES[:1]))
    assert line == {"kind": "query", "text": QUERIES[0], "shape": [16, 16]}


def test_texts_and_lines_of_a_file_are_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("three\nfour\n", encoding="utf-8")
    lines = encoded(capsys, "--document", "one", "--text", "two", "--file", str(file))
    assert [line["text"] for line in lines] == ["one", "two", "three", "four"]
    assert {line["kind"] for line in lines} == {"document"}


def test_out_saves_every_array_under_its_own_name_without_pickle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "tokens.npz", str(pair("bert").folder)
    texts = words(query=QUERIES, document=DOCUMENTS)
    assert cli.main(["encode", folder, *texts, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    saved = dict(np.load(out, allow_pickle=False))
    model = pair("bert").ours
    queries, documents = model.encode_queries(QUERIES), model.encode_documents(DOCUMENTS)
    expected = {
        "query_0": queries[0],
        "query_1": queries[1],
        "document_0": documents[0],
        "document_1": documents[1],
        "scores": model.score(queries, documents),
    }
    assert list(saved) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(saved[name], array, atol=1e-5)


def test_a_prompt_goes_before_queries_or_before_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, both = tmp_path / "tokens.npz", pair("prompted")
    options = ["--prompt_name", "query", "--query", "it", "--out", str(out)]
    assert cli.main(["encode", str(both.folder), *options]) == 0
    expected = both.theirs.encode("it", prompt_name="query")
    np.testing.assert_allclose(np.load(out)["query_0"], expected, atol=1e-4)
    assert cli.main(["encode", str(both.folder), *options, "--document", "that"]) == 2
    assert "--prompt_name is for queries or for documents" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--query, --document, --text or --file"),
        (["--query", "a", "--pooling", "mean"], "--pooling is for"),
        (["--query", "a", "--prompt_name", "nope"], "nope"),
        (["--query", "a", "--out", "no/such/folder/x.npz"], "its folder does not exist"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in retort_refused(capsys, "encode", pair("bert").folder, *options)


@pytest.mark.parametrize("conversion", [old_layout, tagger])
@pytest.mark.parametrize("option", ["--query", "--document"])
def test_queries_and_documents_are_refused_for_other_families(
    conversion: Any, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(conversion().folder)
    assert cli.main(["encode", folder, "--text", "a", option, "b"]) == 2
    assert f"{option} is for ColBERT folders" in capsys.readouterr().err


def test_the_command_imports_no_torch() -> None:
    script = (
        "import sys; from retort import cli; code = cli.main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    texts = words(query=QUERIES, document=DOCUMENTS)
    command = [sys.executable, "-c", script, "encode", str(pair("bert").folder), *texts]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=False).returncode == 0
