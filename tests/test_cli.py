"""The ``retort`` command: its verbs, what it prints where, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import retort_refused
from converted import minilm, tagger

from retort import cli
from retort.runtime import load

TEXTS = ["A small text.", "Noch ein Text, etwas länger."]


def lines_of(capture: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Return the JSON objects on stdout, one on each line."""
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def test_encode_prints_one_vector_on_a_line_for_each_text_and_line_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text(f"{TEXTS[1]}\n", encoding="utf-8")
    folder = str(minilm().folder)
    assert cli.main(["encode", folder, "--text", TEXTS[0], "--file", str(file)]) == 0
    found = lines_of(capsys)
    assert [line["text"] for line in found] == TEXTS
    expected = load(folder).encode(TEXTS)
    np.testing.assert_allclose([line["embedding"] for line in found], expected, atol=1e-6)


def test_encode_takes_the_graph_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    folder, name = str(minilm().folder), "onnx/model_quantized.onnx"
    assert cli.main(["encode", folder, "--text", TEXTS[0], "--model_file", name]) == 0
    (line,) = lines_of(capsys)
    expected = load(folder, name).encode(TEXTS[0])
    np.testing.assert_allclose(line["embedding"], expected, atol=1e-6)


def test_encode_saves_embeddings_to_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "vectors.npz"
    options = [word for text in TEXTS for word in ("--text", text)]
    assert cli.main(["encode", str(minilm().folder), *options, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    saved = np.load(out)
    expected = load(minilm().folder).encode(TEXTS)
    np.testing.assert_allclose(saved["embeddings"], expected, atol=1e-6)


def test_encode_prints_the_entities_of_each_text(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tagger().folder)
    assert cli.main(["encode", folder, "--text", TEXTS[0]]) == 0
    (line,) = lines_of(capsys)
    expected = load(folder).entities(TEXTS[0])
    found = [(e["label"], e["text"], e["start"], e["end"]) for e in line["entities"]]
    assert found == [(e.label, e.text, e.start, e.end) for e in expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--text or --file"),
        (["--file", "no-such-file"], "no-such-file"),
        (["--text", "a", "--model_file", "nope.onnx"], "nope.onnx"),
        (["--text", "a", "--prompt_name", "nope"], "nope"),
    ],
)
def test_what_encode_cannot_use_is_told_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in retort_refused(capsys, "encode", minilm().folder, *options)


@pytest.mark.parametrize("option", ["--prompt_name", "--pooling"])
def test_options_of_embeddings_are_refused_for_a_token_classifier(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["encode", str(tagger().folder), "--text", "a", option, "mean"]) == 2
    assert option in capsys.readouterr().err


def test_entities_are_not_saved_as_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.npz"
    assert cli.main(["encode", str(tagger().folder), "--text", "a", "--out", str(out)]) == 2
    assert "--out" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("argv", [[], ["nope"], ["encode"], ["encode", "x", "--nope"]])
def test_wrong_usage_ends_with_two_and_one_line(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_convert_is_convert_py(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(minilm().checkpoint)
    assert cli.main(["convert", "--model_id", model, "--dry_run", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "embedding"


def test_the_command_and_its_encode_verb_import_no_torch() -> None:
    script = (
        "import sys; from retort import cli; code = cli.main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    command = [sys.executable, "-c", script, "encode", str(minilm().folder), "--text", "a"]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=False).returncode == 0
