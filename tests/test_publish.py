"""Uploading a finished folder to the Hub: what is sent, what is refused, what is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_machine import OTHER_TOKEN, TOKEN
from hub_server import Repository
from publishing import (
    CARD,
    GRAPH,
    PublishMachine,
    contents,
    finished_folder,
    publish_machine,
)


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[PublishMachine]:
    with publish_machine(tmp_path, capsys) as given:
        yield given


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return finished_folder(tmp_path / "models" / "mine")


def test_the_whole_folder_arrives_in_one_commit(machine: PublishMachine, folder: Path) -> None:
    before = contents(folder)
    done = machine.push(folder)
    assert (done.code, done.stdout) == (0, f"{machine.hub.address}/org/new\n")
    there = machine.files()
    card = there.pop("README.md")
    assert there == {
        **{name: content for name, content in before.items() if name != "README.md"},
        ".gitattributes": b"*.onnx filter=lfs\n",
    }
    assert card == CARD.replace("path/to/this-folder", "org/new").encode()
    assert machine.pushes() == 1
    assert contents(folder) == before


def test_a_file_above_the_limit_of_git_goes_to_the_store_of_large_files(
    machine: PublishMachine, folder: Path
) -> None:
    (folder / "tokenizer.json").write_bytes(bytes(10_000_001))
    assert machine.push(folder).code == 0
    sizes = [len(seen.body) for seen in machine.hub.requested("/store/", "PUT")]
    assert 10_000_001 in sizes
    assert machine.files()["tokenizer.json"] == bytes(10_000_001)


def test_large_files_may_be_asked_for_in_parts(machine: PublishMachine, folder: Path) -> None:
    machine.uploads.part_size = 16
    (folder / "model.onnx").unlink()  # two threads would make one file of the same parts
    assert machine.push(folder).code == 0
    assert len(machine.sent()) == -(-len(GRAPH) // 16)
    assert machine.files()["onnx/model.onnx"] == GRAPH


def test_a_hub_without_xet_is_spoken_to_without_it(machine: PublishMachine, folder: Path) -> None:
    assert machine.push(folder).code == 0
    (batch,) = machine.hub.requested("/objects/batch", "POST")
    assert json.loads(batch.body)["transfers"] == ["basic", "multipart", "xet"]
    assert machine.push(folder, repo_id="org/other", HF_HUB_DISABLE_XET="1").code == 0


def test_hidden_files_and_leftovers_stay_here(machine: PublishMachine, folder: Path) -> None:
    kept = {".env", ".cache/x", "onnx/.x", "onnx/model.onnx.lock", "__pycache__/m.pyc"}
    kept |= {"mine.partial-1/x", "onnx/model.onnx.incomplete"}
    for name in kept:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"secret")
    assert machine.push(folder).code == 0
    assert machine.files().keys().isdisjoint(kept)
    assert b"secret" not in machine.files().values()


def test_pushing_again_sends_and_commits_nothing(machine: PublishMachine, folder: Path) -> None:
    assert machine.push(folder).code == 0
    sent = machine.sent()
    again = machine.push(folder)
    assert (again.code, again.stdout) == (0, f"{machine.hub.address}/org/new\n")
    assert "org/new has all of this already" in again.stderr
    assert (machine.pushes(), machine.sent()) == (1, sent)


def test_a_changed_folder_is_one_more_commit_that_leaves_other_files_there(
    machine: PublishMachine, folder: Path
) -> None:
    assert machine.push(folder).code == 0
    machine.hub.repositories["org/new"].commit(
        {**machine.files(), "banner.png": b"png", "onnx/model_uint8.onnx": b"of another time"}
    )
    (folder / "config.json").write_bytes(b'{"new": 1}')
    done = machine.push(folder)
    assert done.code == 0
    assert machine.files()["config.json"] == b'{"new": 1}'
    assert machine.files()["banner.png"] == b"png"
    assert "org/new also has onnx/model_uint8.onnx, from another time" in done.stderr


def test_a_repository_is_made_private_only_if_asked_for(
    machine: PublishMachine, folder: Path
) -> None:
    assert machine.push(folder, "--private", repo_id="org/hidden").code == 0
    assert machine.push(folder).code == 0
    assert machine.hub.repositories["org/hidden"].private
    assert not machine.hub.repositories["org/new"].private


def test_nothing_private_is_sent_to_a_public_repository(
    machine: PublishMachine, folder: Path
) -> None:
    assert machine.push(folder).code == 0
    (folder / "config.json").write_bytes(b'{"secret": 1}')
    refused = machine.push(folder, "--private")
    assert refused.code == 2
    assert "org/new exists and is public" in refused.error
    assert machine.files()["config.json"] == b"{}"


def test_a_folder_that_was_not_validated_needs_its_flag(
    machine: PublishMachine, tmp_path: Path
) -> None:
    unmeasured = finished_folder(tmp_path / "unmeasured", validated=False)
    refused = machine.push(unmeasured)
    assert refused.code == 2
    assert (
        "does not say that all was validated: convert again, or --push_unvalidated" in refused.error
    )
    assert not machine.hub.log
    assert machine.push(unmeasured, "--push_unvalidated").code == 0


def test_a_folder_of_another_tool_goes_with_a_warning_and_a_plain_card(
    machine: PublishMachine, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(GRAPH)
    done = machine.push(folder)
    assert done.code == 0
    assert "nothing in it was measured by Retort" in done.stderr
    card = machine.files()["README.md"].decode()
    assert "| `model.onnx` | 0.0 |" in card
    assert "measured nothing of them" in card
    assert list(contents(folder)) == ["model.onnx"]


def test_a_card_that_its_owner_wrote_is_sent_as_it_is(
    machine: PublishMachine, folder: Path
) -> None:
    own = b"# My model\r\n\r\nWithout front matter\r\n"
    (folder / "README.md").write_bytes(own)
    done = machine.push(folder)
    assert machine.files()["README.md"] == own
    assert "org/new: Warnings while validating metadata" in done.stderr


def test_without_a_token_the_hub_is_not_asked(machine: PublishMachine, folder: Path) -> None:
    refused = machine.push(folder, token=None, HF_HUB_DISABLE_TELEMETRY="1")
    assert refused.code == 2
    assert f"make one at {machine.hub.address}/settings/tokens" in refused.error
    assert not machine.hub.log
    assert machine.push(folder, token=None, HF_TOKEN=TOKEN).code == 0


def test_offline_mode_is_taken_at_its_word(machine: PublishMachine, folder: Path) -> None:
    refused = machine.push(folder, HF_HUB_OFFLINE="1")
    assert (refused.code, "HF_HUB_OFFLINE is set" in refused.error) == (2, True)
    assert not machine.hub.log


def test_a_token_that_the_hub_does_not_know_is_called_refused(
    machine: PublishMachine, folder: Path
) -> None:
    refused = machine.push(folder, token="hf_mistyped")
    assert refused.code == 2
    assert "refuses the access token" in refused.error
    assert "hf_mistyped" not in refused.stderr


def test_a_token_without_the_right_to_write_is_told_so_in_the_hubs_words(
    machine: PublishMachine, folder: Path
) -> None:
    machine.hub.repositories["org/new"] = Repository(refs={"main": "a" * 40})
    machine.hub.repositories["org/new"].commits["a" * 40] = {}
    for repo_id in ("org/new", "org/none"):
        refused = machine.push(folder, repo_id=repo_id, token=OTHER_TOKEN)
        assert refused.code == 2
        assert "HTTP 403 (You don't have the rights to create a model under org.)" in refused.error
        assert "the token may not write there" in refused.error
        assert f"go on with: retort push {folder} {repo_id}" in refused.error


def test_a_card_that_the_hub_refuses_is_told_before_anything_large_is_sent(
    machine: PublishMachine, folder: Path
) -> None:
    (folder / "README.md").write_text("---\nlicense: mine\n---\n", encoding="utf-8")
    refused = machine.push(folder)
    assert refused.code == 2
    assert 'README.md: the Hub refuses it (- "license" must be one of' in refused.error
    assert not machine.sent()
