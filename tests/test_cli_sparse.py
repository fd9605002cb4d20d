"""``retort encode`` on a SPLADE folder or graph: terms and weights, and the scores of two sides."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from command_line import contents, retort_refused
from converted import old_layout, tagger
from runtime_folders import write_json
from scipy.sparse import load_npz
from sparse_folders import PAIR, SIZE, VOCABULARY, hand_made, opened, write_graph

from retort import cli

TERMS = {"fox": 1.704748, "red": 1.386294, "blue": 0.693147, "dog": 0.405465, "green": 0.223144}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hand_made(tmp_path / "model", ["sparse_vector"])


def encoded(capture: pytest.CaptureFixture[str], path: Path, *options: str) -> list[Any]:
    """Run the command, and return the JSON objects on stdout."""
    assert cli.main(["encode", str(path), *options]) == 0
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def test_each_text_has_a_line_with_its_terms_the_largest_weight_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = encoded(capsys, folder, "--text", "red foxes", "--text", "", "--threshold", "0.2")
    assert lines == [
        {"text": "red foxes", "shape": [SIZE], "nonzeros": 5, "terms": TERMS},
        {"text": "", "shape": [SIZE], "nonzeros": 1, "terms": {"green": 0.223144}},
    ]
    assert list(lines[0]["terms"]) == list(TERMS)


def test_terms_of_small_weight_and_beyond_the_first_few_can_be_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = encoded(capsys, folder, "--text", "red foxes", "--threshold", "0.4", "--top_k", "9")
    assert list(line["terms"]) == ["fox", "red", "blue", "dog"]
    (line,) = encoded(capsys, folder, "--text", "red foxes", "--top_k", "2")
    assert (line["nonzeros"], list(line["terms"])) == (2, ["fox", "red"])
    (line,) = encoded(capsys, folder, "--text", "red foxes")
    assert line["nonzeros"] == 6


def test_a_graph_is_enough(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = encoded(capsys, folder, "--text", "red foxes", "--text", "dog")
    texts = ["--text", "red foxes", "--text", "dog"]
    assert encoded(capsys, folder / "onnx" / "model.onnx", *texts) == expected
    write_graph(tmp_path / "anserini" / "splade-optimized.onnx", PAIR)
    vocabulary = tmp_path / "anserini" / "splade-vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY), encoding="utf-8")
    graph = vocabulary.with_name("splade-optimized.onnx")
    assert encoded(capsys, graph, *texts) == expected


def test_queries_and_documents_have_their_sides_and_the_last_line_has_the_scores(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(folder / "query_weights.json", {"weights": {"red": 2.0, "fox": 0.5}})
    file = tmp_path / "texts.txt"
    file.write_text("dog\n", encoding="utf-8")
    sides = ["--query", "red fox", "--query", "fox", "--document", "red", "--text", "foxes"]
    *lines, last = encoded(capsys, folder, *sides, "--file", str(file))
    told = [(line["kind"], line["text"]) for line in lines]
    assert told == [
        ("query", "red fox"),
        ("query", "fox"),
        ("document", "red"),
        ("document", "foxes"),
        ("document", "dog"),
    ]
    assert lines[0]["terms"] == {"red": 2.0, "fox": 0.5}
    model = opened(folder)
    scores = model.score(
        model.encode_queries(["red fox", "fox"]), model.encode_documents(["red", "foxes", "dog"])
    )
    assert list(last) == ["scores"]
    np.testing.assert_allclose(last["scores"], scores, atol=1e-4)


@pytest.mark.parametrize("kind", ["query", "document"])
def test_without_the_other_side_there_are_no_scores(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = encoded(capsys, folder, f"--{kind}", "red", "--prompt_name", "query")
    assert (line["kind"], line["text"]) == (kind, "red")


def test_out_saves_rows_that_scipy_reads_queries_first(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "vectors.npz"
    options = ["--query", "red", "--document", "fox", "--document", "dog", "--out", str(out)]
    assert cli.main(["encode", str(folder), *options, "--threshold", "0.3"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    matrix = load_npz(out)
    vectors = opened(folder).encode_arrays(["red", "fox", "dog"], threshold=0.3)
    assert matrix.shape == (3, SIZE)
    for row, vector in zip(matrix, vectors, strict=True):
        np.testing.assert_array_equal(row.indices, vector.indices)
        np.testing.assert_array_equal(row.data, vector.values)
    scores = opened(folder).score(vectors[:1], vectors[1:])
    np.testing.assert_allclose(np.load(out)["scores"], scores)


def test_out_never_writes_over_what_is_no_npz_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = folder / "onnx" / "model.onnx"
    before = contents(folder)
    said = retort_refused(capsys, "encode", folder, "--text", "red", "--out", graph)
    assert "arrays are saved as .npz; call it model.npz" in said
    assert contents(folder) == before


def test_vectors_that_are_there_stay_whole_if_new_ones_cannot_be_written(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "vectors.npz"
    command = ["encode", str(folder), "--text", "red", "--out", str(out)]
    assert cli.main(command) == 0
    before = contents(tmp_path)

    def half_written(stream: IO[bytes], **arrays: object) -> None:
        stream.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", half_written)
    capsys.readouterr()
    assert cli.main(command) == 2
    assert capsys.readouterr().err == f"error: {out}: cannot be written (No space left on device)\n"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--text or --file"),
        (["--text", "a", "--pooling", "mean"], "--pooling is for"),
        (["--text", "a", "--prompt_name", "nope"], "nope"),
        (["--text", "a", "--top_k", "0"], "top_k must be at least 1"),
        (["--text", "a", "--threshold", "nan"], "threshold must be at least 0, not nan"),
        (["--text", "a", "--threshold", "-1"], "threshold must be at least 0"),
        (["--query", "a", "--document", "b", "--prompt_name", "query"], "--prompt_name is for"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    options: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in retort_refused(capsys, "encode", folder, *options)


@pytest.mark.parametrize("conversion", [old_layout, tagger])
@pytest.mark.parametrize("option", ["--threshold", "--top_k"])
def test_the_bounds_of_terms_are_refused_for_other_families(
    conversion: Any, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["encode", str(conversion().folder), "--text", "a", option, "1"]) == 2
    assert f"{option} is for SPLADE" in capsys.readouterr().err


def test_the_command_imports_no_torch(folder: Path) -> None:
    write_json(folder / "query_weights.json", {"weights": {"red": 2.0}})
    script = (
        "import sys; from retort import cli; code = cli.main(sys.argv[1:]); "
        "sys.exit(code or bool({'torch', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    words = ["encode", str(folder), "--query", "red", "--document", "fox"]
    command = [sys.executable, "-c", script, *words]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=False).returncode == 0
