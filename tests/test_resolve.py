"""Local checkpoints: how a folder is found and named, and what is said about damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_bytes import (
    BERT,
    CONFIG,
    TOKENIZER,
    tensors,
    write,
)
from local_models import POINTER, refusal, resolved


def test_a_folder_is_found_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "home" / "my-model", BERT)
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spellings = [
        *(folder, f"{folder}/", "my-model", "./my-model", "my-model/.", "~/my-model"),
        *("my-model/../my-model", "../home/my-model", "my-model//"),
    ]
    for spelling in spellings:
        checkpoint = resolved(spelling)
        assert (checkpoint.folder, checkpoint.name) == (folder.resolve(), "my-model"), spelling
        assert checkpoint.commit is None
        assert checkpoint.model_type == "bert"


def test_dots_and_the_home_sign_stand_for_the_name_of_the_folder_they_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "my-model", BERT)
    (folder / "inside").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for place, spelling in ((folder, "."), (folder / "inside", ".."), (tmp_path, "~")):
        monkeypatch.chdir(place)
        assert resolved(spelling).name == "my-model"
        assert resolved(spelling).folder == folder.resolve()


def test_a_symbolic_link_keeps_its_own_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "0f3a9c", BERT)
    (tmp_path / "my-model").symlink_to(folder)
    checkpoint = resolved(tmp_path / "my-model")
    assert (checkpoint.name, checkpoint.folder) == ("my-model", folder.resolve())


def test_a_folder_that_looks_like_a_hub_id_is_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "org" / "model", BERT)
    monkeypatch.chdir(tmp_path)
    assert resolved("org/model").folder == folder.resolve()


@pytest.mark.parametrize(
    "model", ["./x", "../evil", "a/../../b", "/abs/missing", "~/x", "x/y/z", "x/", "..\\x"]
)
def test_what_looks_like_a_path_and_is_not_there_is_a_missing_folder(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "folder not found" in refusal(model)


@pytest.mark.parametrize(
    "model", ["", " ", "a\0b", "org/na\nme", "org/name\n", "a b", "org/-x", "a--b", "ü/x", "C:x"]
)
def test_what_is_neither_a_path_nor_a_hub_id_is_refused(model: str) -> None:
    assert "Hub id" in refusal(model)


def test_the_root_of_the_file_system_is_no_checkpoint() -> None:
    assert "no folder name" in refusal("/")


def test_a_name_too_long_for_the_file_system_is_refused_in_a_short_line() -> None:
    message = refusal("x" * 5000)
    assert "cannot be looked up" in message
    assert len(message) < 200


def test_a_file_and_a_dangling_link_are_told_from_a_folder(tmp_path: Path) -> None:
    write(tmp_path, BERT)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "a file, not a folder" in refusal(tmp_path / "config.json")
    assert "a link" in refusal(tmp_path / "link")


def test_an_empty_folder_is_called_empty(tmp_path: Path) -> None:
    assert "an empty folder" in refusal(tmp_path)


def test_resolving_writes_nothing_into_the_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", BERT)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    resolved(folder)
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    folder.chmod(0o755)


CUT = BERT["model.safetensors"][:-100]
DAMAGES: dict[str, tuple[dict[str, bytes], str, str]] = {
    "no config": ({**TOKENIZER, "model.safetensors": tensors()}, "config.json", "not found"),
    "config cut short": ({**BERT, "config.json": b'{"model_type": '}, "config.json", "JSON"),
    "config a list": ({**BERT, "config.json": b"[]"}, "config.json", "not a JSON object"),
    "config of no model": ({**BERT, "config.json": b"{}"}, "config.json", "no model_type"),
    "config not text": ({**BERT, "config.json": b"\xff\xfe\x00"}, "config.json", "JSON"),
    "config nested without end": ({**BERT, "config.json": b"[" * 99_999}, "config.json", "JSON"),
    "adapter alone": ({**TOKENIZER, "adapter_config.json": b"{}"}, "", "merge_and_unload"),
    "no weights": ({**CONFIG, **TOKENIZER}, "", "no model.safetensors"),
    "adapter weights": ({**CONFIG, **TOKENIZER, "adapter_model.bin": b"x"}, "", "an adapter's"),
    "TensorFlow only": ({**CONFIG, **TOKENIZER, "tf_model.h5": b"x"}, "", "only TensorFlow"),
    "Flax only": ({**CONFIG, **TOKENIZER, "flax_model.msgpack": b"x"}, "", "only Flax"),
    "ONNX only": ({**CONFIG, **TOKENIZER, "model.onnx": b"x"}, "", "only ONNX"),
    "weights cut short": ({**BERT, "model.safetensors": CUT}, "model.safetensors", "truncated"),
    "weights empty": ({**BERT, "model.safetensors": b""}, "model.safetensors", "truncated"),
    "weights garbage": ({**BERT, "model.safetensors": b"x" * 999}, "model.safetensors", "not a"),
    "weights a pointer": ({**BERT, "model.safetensors": POINTER}, "model.safetensors", "git lfs"),
    "tokenizer cut short": ({**BERT, "tokenizer.json": b'{"a'}, "tokenizer.json", "cannot read"),
    "tokenizer of no kind": ({**BERT, "tokenizer.json": b"{}"}, "tokenizer.json", "cannot read"),
    "tokenizer a pointer": ({**BERT, "tokenizer.json": POINTER}, "tokenizer.json", "git lfs"),
    "tokenizer settings cut short": (
        {**BERT, "tokenizer_config.json": b'{"a'},
        "tokenizer_config.json",
        "JSON",
    ),
    "no tokenizer": ({**CONFIG, "model.safetensors": tensors()}, "", "no tokenizer"),
    "modules cut short": ({**BERT, "modules.json": b"[{"}, "modules.json", "JSON"),
    "modules of no kind": ({**BERT, "modules.json": b"[1]"}, "modules.json", "type or path"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_by_the_name_of_the_file(
    damage: str, tmp_path: Path
) -> None:
    files, name, problem = DAMAGES[damage]
    message = refusal(write(tmp_path / "model", files))
    assert message.startswith(f"{tmp_path / 'model' / name}:")
    assert problem in message
