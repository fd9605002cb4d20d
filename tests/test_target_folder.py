"""From a checkpoint's name to its output folder, and second names for a file (Linux)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from retort.errors import InputError
from retort.output.output_folder import link_or_copy, target_folder


@pytest.mark.parametrize("name", ["org/model", "model", "./model", "org//model", "model.v1..2"])
def test_a_name_becomes_a_folder_in_the_parent(tmp_path: Path, name: str) -> None:
    assert target_folder(tmp_path, name) == tmp_path / name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["..", "../model", "org/../../model", "org/..", "/etc/model", "org/model", "org/deep/model"],
)
def test_a_name_that_leads_out_of_the_parent_is_refused(tmp_path: Path, name: str) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "org").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"leads out of .*another --output_parent_dir"):
        target_folder(parent, name)


@pytest.mark.parametrize(
    "name", ["", ".", " ", "a\0b", "a\nb", "model.partial-7", "org.partial-old/model"]
)
def test_a_name_that_cannot_name_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name an output folder") as caught:
        target_folder(tmp_path, name)
    assert "\n" not in str(caught.value)


def test_a_link_within_the_parent_and_a_parent_that_is_a_link_are_fine(tmp_path: Path) -> None:
    (tmp_path / "parent" / "real").mkdir(parents=True)
    (tmp_path / "parent" / "org").symlink_to("real")
    (tmp_path / "link").symlink_to("parent")
    target = target_folder(tmp_path / "link", "org/model")
    assert target == tmp_path / "link" / "org" / "model"
    target.mkdir()
    assert (tmp_path / "parent" / "real" / "model").is_dir()


def test_a_file_is_copied_where_a_hard_link_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    link_or_copy(Path("/proc/version"), tmp_path / "version")  # another file system
    assert (tmp_path / "version").read_text() == Path("/proc/version").read_text()
    assert "no hard link" in caplog.text


def test_a_link_is_never_made_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "b"


def test_linking_a_symbolic_link_links_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to("a")
    link_or_copy(tmp_path / "link", tmp_path / "b")
    assert not (tmp_path / "b").is_symlink()
    assert (tmp_path / "b").samefile(tmp_path / "a")
