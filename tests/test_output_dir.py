"""``--output_dir``: the result is exactly the folder that is named."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from command_line import Ended, convert_here
from converted import workshop
from tiny_checkpoints import build_encoder
from transformers import AutoModel

Capture = pytest.CaptureFixture[str]

for_each = pytest.mark.parametrize


@cache
def checkpoint() -> Path:
    return build_encoder(workshop() / "output-dir" / "model", "distilbert")


def run(capsys: Capture, output_dir: str, *options: str) -> Ended:
    words = ("--model_id", checkpoint(), "--output_dir", output_dir, "--quiet")
    return convert_here(capsys, *words, "--optimize", "0", "--skip_validation", *options)


@for_each(
    ("given", "place"),
    [
        ("exact", "exact"),
        ("exact/", "exact"),
        ("./new/deep/exact", "new/deep/exact"),
        ("sub/../exact", "exact"),
        ("../beside", "../beside"),
        ("sub/.", "sub"),
        ("link/../exact", "../exact"),  # the link leads to a folder beside this one
    ],
)
def test_the_output_folder_is_the_very_one_that_is_named(
    given: str, place: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (here / "link").symlink_to(tmp_path / "other")
    monkeypatch.chdir(here)
    told = json.loads(run(capsys, given, "--dry_run", "--force").stdout)
    assert Path(told["target"]) == (here / place).resolve()
    assert Path(told["target"]).is_absolute()
    assert not list(tmp_path.rglob("*.onnx")), "a dry run writes nothing"


def test_the_output_folder_overrides_the_parent_and_is_printed(
    tmp_path: Path, capsys: Capture
) -> None:
    exact = tmp_path / "new" / "exact"
    parent = ("--output_parent_dir", str(tmp_path / "parent"))
    ended = run(capsys, f"{exact}/", *parent)
    assert (ended.code, ended.stdout) == (0, f"{exact}\n"), ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in exact.parent.iterdir()] == ["exact"]
    assert (exact / "onnx" / "model.onnx").is_file()
    for options in ((), ("--dry_run",)):
        again = run(capsys, str(exact), *options)
        assert (again.code, again.stdout) == (2, "")
        assert again.error == f"error: {exact} exists; pass --force to replace it"
    forced = run(capsys, str(exact), "--force", "--layout", "root")
    assert (forced.code, forced.stdout) == (0, f"{exact}\n"), forced.stderr
    assert (exact / "model.onnx").is_file()
    assert not (exact / "onnx").exists()


@for_each(
    ("given", "said"),
    [
        ("", "names no folder"),
        ("/", "names no folder"),
        ("out.partial-7", "cannot name an output folder"),
        ("link", "is a file, a link or a mount point"),
        ("file", "is a file, a link or a mount point"),
        ("foreign", "has no conversion.json"),
        ("foreign/..", "has no conversion.json"),
    ],
)
def test_an_output_folder_that_cannot_be_is_refused(
    given: str, said: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("foreign")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for options in (("--force",), ("--force", "--dry_run")):
        ended = run(capsys, given, *options)
        assert (ended.code, ended.stdout) == (2, "")
        assert said in ended.error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_quiet_conversion_of_weights_in_shards_says_nothing_but_where_it_is(
    tmp_path: Path, capsys: Capture
) -> None:
    shards = Path(shutil.copytree(checkpoint(), tmp_path / "shards"))
    (shards / "model.safetensors").unlink()
    AutoModel.from_pretrained(checkpoint()).save_pretrained(shards, max_shard_size="20KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    capsys.readouterr()
    out = tmp_path / "out"
    words = ("--model_id", shards, "--output_dir", out, "--quiet", "--optimize", "0")
    assert convert_here(capsys, *words) == Ended(0, f"{out}\n", "")
