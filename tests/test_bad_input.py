"""Options and folders that cannot be used: one line, an exit code, nothing written or harmed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from command_line import contents, convert_here, earlier_result, listing, permissions_count, refused
from tiny_checkpoints import build_encoder

from retort.json_files import read_object, write_json

Capture = pytest.CaptureFixture[str]
ELSEWHERE = "choose another --output_parent_dir"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that can be converted; only copied."""
    return build_encoder(tmp_path_factory.mktemp("built") / "model", "bert")


@pytest.fixture
def model(built: Path, tmp_path: Path) -> Path:
    """Return a test's own copy of the checkpoint."""
    return Path(shutil.copytree(built, tmp_path / "source" / "model"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder for results with the result of an earlier run in it."""
    return earlier_result(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--family", "nope"], ["--family nope", "embedding, ", "token_classification"]),
        (["--task", "nope"], ["--task nope", "feature-extraction, ", "token-classification"]),
        (
            ["--task", "question-answering"],
            ["--task question-answering", "feature-extraction, ", "token-classification"],
        ),
        (
            ["--task", "token-classification"],
            ["BertModel", "not recognised as token_classification", "--family"],
        ),
        (
            ["--family", "embedding", "--task", "token-classification"],
            ["--task token-classification", "--family embedding", "drop one"],
        ),
        (["--opset", "99"], ["--opset 99", "14 to 20"]),
        (["--opset", "99", "--dry_run"], ["--opset 99", "14 to 20"]),
        (["--device", "tpu"], ["--device tpu", "use cpu"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_an_option_that_does_not_fit_is_told_in_one_line_with_what_would(
    options: list[str], said: list[str], model: Path, out: Path, capfd: Capture
) -> None:
    line = refused(capfd, model, out, "--force", *options)
    assert all(words in line for words in said), line


def test_a_cuda_device_needs_one(
    model: Path, out: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a machine without one answers.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refused(capfd, model, out, "--force", "--device", "cuda")
    assert "--device cuda" in line
    assert "use cpu" in line


@pytest.mark.parametrize(
    ("files", "said"),
    [(None, "folder not found"), ([], "an empty folder"), (["notes.json"], "config.json: not")],
    ids=["missing", "empty", "not a model"],
)
def test_a_folder_without_a_model_is_refused(
    files: list[str] | None, said: str, out: Path, capfd: Capture
) -> None:
    folder = out.parent / "other"
    if files is not None:
        folder.mkdir()
        for name in files:
            write_json(folder / name, "no model")
    assert said in refused(capfd, folder, out, "--force")


@pytest.mark.parametrize(
    "climbing", ["../no_model", "org/../../model", "org/..", "../../../etc/no", "org\\..\\model"]
)
def test_an_id_that_climbs_is_refused_and_writes_nothing(
    climbing: str, out: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out)
    assert climbing in refused(capfd, climbing, out, "--force").replace("\\\\", "\\")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("{source}/model", "model"),
        ("{source}/model/", "model"),
        ("{source}/part/../model/.", "model"),
        ("../model", "model"),
        ("..//./model//", "model"),
        ("link", "link"),
        ("./part/../link/", "link"),
    ],
)
def test_a_local_folder_is_read_in_any_spelling_and_only_the_result_is_written(
    spelling: str,
    name: str,
    model: Path,
    tmp_path: Path,
    capfd: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (model.parent / "part" / "part").mkdir(parents=True)
    (model.parent / "part" / "link").symlink_to(model)
    monkeypatch.chdir(model.parent / "part")
    before = listing(model.parent)
    ended = convert_here(
        *(capfd, "--model_id", spelling.format(source=model.parent)),
        *("--output_parent_dir", tmp_path / "out", "--optimize", "0", "--skip_validation"),
    )
    assert (ended.code, ended.stdout) == (0, f"{tmp_path / 'out' / name}\n"), ended
    assert listing(model.parent) == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name / "onnx" / "model.onnx").is_file()
    record = read_object(tmp_path / "out" / name / "conversion.json")
    assert record["source"]["model_id"] == name


@pytest.mark.parametrize(
    ("spelling", "place"),
    [(".", "."), (".", "results"), ("..", "part"), ("link", ".."), ("../../model", "../..")],
)
def test_no_result_is_written_into_the_checkpoint_or_over_it(
    spelling: str, place: str, model: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "part").mkdir()
    (model / "part" / "link").symlink_to(model)
    monkeypatch.chdir(model if spelling == "." else model / "part")
    before = listing(model.parent)
    line = refused(capfd, spelling, Path(place), "--force")
    assert "would harm the checkpoint" in line
    assert ELSEWHERE in line
    assert listing(model.parent) == before


def test_an_existing_result_needs_force_and_is_then_replaced(
    model: Path, out: Path, capfd: Capture
) -> None:
    assert f"{out / 'model'} exists; pass --force" in refused(capfd, model, out)
    words = ("--model_id", model, "--output_parent_dir", out, "--skip_validation", "--force")
    before = contents(out)
    assert convert_here(capfd, *words).code == 0
    assert [path.name for path in out.iterdir()] == ["model"]
    assert contents(out)["model/onnx/model.onnx"] != before["model/onnx/model.onnx"]
    assert "source" in read_object(out / "model" / "conversion.json")


def test_a_place_under_a_file_is_refused(model: Path, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/results"):
        line = refused(capfd, model, tmp_path / place)
        assert f"({tmp_path / 'file'}); {ELSEWHERE}" in line


def test_a_place_that_may_not_be_written_is_refused(
    model: Path, tmp_path: Path, capfd: Capture
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with permissions_count():
        for place in (closed, closed / "results"):
            line = refused(capfd, model, place)
            assert f"could not write {place / 'model'}: Permission denied" in line
            assert f"check the permissions, or {ELSEWHERE}" in line
