"""What is checked before an upload, without asking the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from publishing import finished_folder

from retort.arguments import ConversionArguments
from retort.errors import InputError
from retort.stages.publish import check_folder, check_publication, check_publish_arguments

TOKEN = "hf_any"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return finished_folder(tmp_path / "mine", data=b"weights")


def test_a_folder_as_it_was_measured_needs_no_word(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_folder(folder, unvalidated=False)
    assert not caplog.messages


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model.onnx_data"])
def test_a_graph_that_changed_since_it_was_measured_is_refused(name: str, folder: Path) -> None:
    with (folder / name).open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(InputError, match=r"onnx/model\.onnx has changed since it was measured"):
        check_folder(folder, unvalidated=True)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx_data"])
def test_a_second_name_that_is_no_longer_the_same_graph_is_refused(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).write_bytes(b"of another graph")
    with pytest.raises(InputError, match=r"mine/model\.onnx has changed"):
        check_folder(folder, unvalidated=False)


def test_a_second_name_may_be_a_copy(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(content)
    check_folder(folder, unvalidated=False)


def test_graphs_that_were_never_measured_are_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "mine.onnx").write_bytes(b"made by hand")
    (folder / "model.onnx").unlink()
    check_folder(folder, unvalidated=False)
    gone, unmeasured = caplog.messages
    assert gone.startswith(f"{folder / 'model.onnx'} is gone")
    assert unmeasured == f"{folder / 'mine.onnx'} is not in conversion.json: it was never measured"


@pytest.mark.parametrize(
    "record",
    [
        '{"validated": true}',
        '{"validated": true, "files": {"onnx/model.onnx": {"steps": []}}, "links": {}}',
        '{"validated": true, "files": {}, "links": {"model.onnx": "onnx/model.onnx"}}',
    ],
)
def test_a_record_without_checksums_is_no_record(record: str, folder: Path) -> None:
    (folder / "conversion.json").write_text(record, encoding="utf-8")
    with pytest.raises(InputError, match="does not tell what was measured"):
        check_folder(folder, unvalidated=False)


def test_a_folder_without_graphs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="no finished folder"):
            check_folder(folder, unvalidated=False)


def test_a_folder_in_the_making_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished folder"):
        check_folder(finished_folder(tmp_path / "mine.partial-4"), unvalidated=False)


@pytest.mark.parametrize("repo_id", ["new", "a/b/c", "org/", "../x", "org/a b", "org/x.git", ""])
def test_what_is_no_repository_is_refused(repo_id: str) -> None:
    with pytest.raises(InputError, match="give it as account/name"):
        check_publication(repo_id, TOKEN)


def test_a_token_that_cannot_be_one_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="--token: has characters") as caught:
        check_publication("org/new", f"{TOKEN} {TOKEN}")
    assert TOKEN not in str(caught.value)


def test_a_conversion_that_skips_validation_cannot_be_pushed_by_mistake() -> None:
    wanted = {"model_id": "x", "push_to_hub": "org/new", "token": TOKEN, "skip_validation": True}
    with pytest.raises(InputError, match="--skip_validation leaves the files unmeasured"):
        check_publish_arguments(ConversionArguments(**wanted))
    check_publish_arguments(ConversionArguments(**wanted, push_unvalidated=True))


@pytest.mark.parametrize("option", ["private", "push_unvalidated"])
def test_options_of_an_upload_need_one(option: str) -> None:
    with pytest.raises(InputError, match=f"--{option} says how --push_to_hub works"):
        check_publish_arguments(ConversionArguments(model_id="x", **{option: True}))
