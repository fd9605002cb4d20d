"""The Hub: which files are fetched, at which commit, and who may read them."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoint_bytes import (
    BERT,
    CONFIG,
    TOKENIZER,
    encoded,
    sentence_transformers,
    sharded,
    tensors,
    write,
)
from hub_machine import OTHER_TOKEN, TOKEN, Machine, machine_with_hub
from hub_server import Answer, Request

from retort.errors import InputError
from retort.source.hub import HubModel, check_request

JUNK = {
    "pytorch_model.bin": b"pickle",
    "tf_model.h5": b"x",
    "onnx/model.onnx": b"x",
    "onnx/config.json": b"{}",
    "openvino/openvino_model.bin": b"x",
    "modeling.py": b"raise SystemExit",
    "checkpoint-500/model.safetensors": b"x",
    "training_args.bin": b"x",
    "model-q8.gguf": b"x",
}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with machine_with_hub(tmp_path) as given:
        yield given


def test_a_public_model_is_found_at_an_exact_commit_without_importing_torch(
    machine: Machine,
) -> None:
    commit = machine.publish()
    outcome = machine.resolve()
    assert outcome.code == 0
    assert (outcome.told["name"], outcome.told["commit"]) == ("org/model", commit)
    assert outcome.told["folder"].endswith(commit)
    assert Path(outcome.told["folder"], "model.safetensors").read_bytes() == tensors()
    assert outcome.told["modules"] == ["huggingface_hub"]
    assert "WARNING" not in outcome.stderr


def test_a_second_run_downloads_nothing_again(machine: Machine) -> None:
    machine.publish()
    machine.resolve()
    files = len(machine.hub.requested("/resolve/", "GET"))
    outcome = machine.resolve()
    assert outcome.code == 0
    assert files == len(machine.hub.requested("/resolve/", "GET")) > 0


def test_only_the_files_that_a_conversion_needs_are_fetched(machine: Machine) -> None:
    extra = {"README.md": b"#", "LICENSE": b"x", "verify_texts.txt": b"x"}
    machine.publish({**BERT, **extra, **JUNK})
    assert set(machine.resolve().told["files"]) == set(BERT) | set(extra)
    fetched = {seen.path.rpartition("/")[2] for seen in machine.hub.requested("/resolve/", "HEAD")}
    assert fetched == set(BERT) | set(extra)


def test_without_weights_none_are_fetched(machine: Machine) -> None:
    machine.publish()
    outcome = machine.resolve(with_weights=False)
    assert set(outcome.told["files"]) == set(CONFIG) | set(TOKENIZER)
    assert not machine.hub.requested("safetensors", "HEAD")


def test_code_is_fetched_only_with_its_flag_and_refused_before_the_weights(
    machine: Machine,
) -> None:
    mapped = {"model_type": "own", "architectures": ["Own"], "auto_map": {"AutoModel": "own.Own"}}
    commit = machine.publish({**BERT, "config.json": encoded(mapped), "own.py": b"code"})
    refused = machine.resolve()
    assert refused.code == 2
    assert "--trust_remote_code" in refused.error
    assert f"org/model at commit {commit}" in refused.error
    assert not machine.hub.requested("own.py", "HEAD")
    assert not machine.hub.requested("safetensors", "HEAD")
    assert "own.py" in machine.resolve(trust_remote_code=True).told["files"]


def test_the_folders_of_sentence_transformers_modules_come_along(machine: Machine) -> None:
    files = sentence_transformers("0_Transformer")
    machine.publish({**files, **JUNK})
    assert set(machine.resolve().told["files"]) == set(files)


def test_all_shards_of_an_index_come_along(machine: Machine) -> None:
    machine.publish({**sharded(), "model-00009-of-00009.safetensors": b"of another time"})
    assert set(machine.resolve().told["files"]) == set(sharded())


def test_pickles_are_fetched_only_with_their_flag(machine: Machine) -> None:
    machine.publish({**CONFIG, **TOKENIZER, "pytorch_model.bin": b"\x80\x02x"})
    refused = machine.resolve()
    assert (refused.code, "--allow_pickle" in refused.error) == (2, True)
    assert not machine.hub.requested("pytorch_model.bin", "HEAD")
    assert "pytorch_model.bin" in machine.resolve(allow_pickle=True).told["files"]


def test_a_model_in_another_format_is_refused_by_name(machine: Machine) -> None:
    machine.publish({**CONFIG, **TOKENIZER, "tf_model.h5": b"x"})
    assert "only TensorFlow weights (tf_model.h5)" in machine.resolve().error
    machine.publish({"model.gguf": b"x"})
    assert "no config.json" in machine.resolve().error


def test_a_private_model_needs_a_token_of_someone_who_may_read_it(machine: Machine) -> None:
    commit = machine.publish(private=True, readers={"reader"})
    without = machine.resolve()
    stranger = machine.resolve(token=OTHER_TOKEN)
    given = machine.resolve(token=TOKEN)
    assert (without.code, stranger.code, given.code) == (2, 2, 0)
    assert "not found" in without.error
    assert "--token" in without.error
    assert "may read it" in stranger.error
    assert given.told["commit"] == commit
    assert "hf_" not in given.told["shown"]
    assert machine.resolve(HF_TOKEN=TOKEN).code == 0


def test_a_gated_model_says_where_access_is_asked_for(machine: Machine) -> None:
    machine.publish(gated=True, readers={"reader"})
    without = machine.resolve()
    stranger = machine.resolve(token=OTHER_TOKEN)
    for outcome in (without, stranger):
        assert outcome.code == 2
        assert "gated" in outcome.error
        assert f"{machine.hub.address}/org/model" in outcome.error
    assert "pass --token" in without.error
    assert "has no access" in stranger.error
    assert machine.resolve(token=TOKEN).code == 0


def test_a_token_that_the_hub_does_not_know_is_called_refused(machine: Machine) -> None:
    machine.publish()
    outcome = machine.resolve(token="hf_mistyped")
    assert outcome.code == 2
    assert "refuses the access token" in outcome.error
    assert "hf_mistyped" not in outcome.error + outcome.stderr


@pytest.mark.parametrize("token", [f"{TOKEN}\n{OTHER_TOKEN}", f"{TOKEN} ", f"{TOKEN}\u2026"])
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(InputError, match="--token: has characters") as caught:
        check_request(HubModel("org/model", token=token))
    assert "hf_" not in str(caught.value)


def test_a_model_that_is_nowhere_is_not_found(machine: Machine) -> None:
    outcome = machine.resolve("org/nothing")
    assert outcome.code == 2
    assert "org/nothing: not a local folder, and not found" in outcome.error


def test_branches_tags_and_commits_are_all_revisions(machine: Machine) -> None:
    first = machine.publish()
    repository = machine.hub.repositories["org/model"]
    repository.refs["v1"] = first
    newer = repository.commit({**BERT, "README.md": b"new"})
    branch = repository.commit(BERT, "refs/pr/1")
    wanted = {"v1": first, "main": newer, "refs/pr/1": branch, first: first}
    found = {name: machine.resolve(revision=name).told["commit"] for name in wanted}
    assert found == wanted


def test_a_branch_that_moves_during_the_download_gives_the_commit_that_was_listed(
    machine: Machine,
) -> None:
    commit = machine.publish()
    listing = machine.hub.routes[1]

    def move_on_after_the_first(request: Request, repo_id: str, revision: str) -> Answer:
        answer = listing.answer(request, repo_id, revision)
        if len(machine.hub.requested("/api/models/")) == 1:
            machine.hub.repositories[repo_id].commit({**BERT, "vocab.txt": b"new"})
        return answer

    machine.hub.routes[1] = listing._replace(answer=move_on_after_the_first)
    outcome = machine.resolve()
    assert (outcome.code, outcome.told["commit"]) == (0, commit)
    assert set(outcome.told["files"]) == set(BERT)


def test_a_revision_that_is_not_there_is_named(machine: Machine) -> None:
    machine.publish()
    for revision in ("v9", "0" * 40):
        outcome = machine.resolve(revision=revision)
        assert outcome.code == 2
        assert f"no branch, tag or commit called {revision!r}" in outcome.error


@pytest.mark.parametrize("revision", ["../../secret", "a/../b", "/etc/passwd", "a b", "a\n", ""])
def test_a_revision_that_git_would_not_allow_never_reaches_a_path(revision: str) -> None:
    with pytest.raises(InputError, match="not a name that git allows"):
        check_request(HubModel("org/model", revision))


def test_progress_is_shown_on_a_terminal_only_and_only_if_wanted(machine: Machine) -> None:
    machine.publish()
    shown = {}
    for progress in (True, False):
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        machine.run("org/model", theirs, progress=progress, cache_dir=f"cache-{progress}")
        os.write(theirs, b"end")
        seen = b""
        while not seen.endswith(b"end"):
            seen += os.read(ours, 1000)
        shown[progress] = b"%|" in seen
        os.close(theirs)
        os.close(ours)
    assert shown == {True: True, False: False}
    assert "%|" not in machine.resolve().stderr


def test_nothing_is_written_outside_the_cache(machine: Machine) -> None:
    machine.publish()
    cache = machine.home / "elsewhere"
    outcome = machine.resolve(cache_dir="~/elsewhere")
    assert Path(outcome.told["folder"]).is_relative_to(cache)
    assert [path.name for path in machine.home.iterdir()] == ["elsewhere"]


def test_a_local_folder_asks_the_hub_nothing_and_does_not_load_its_library(
    machine: Machine,
) -> None:
    write(machine.home / "org" / "model", BERT)
    machine.publish()
    outcome = machine.resolve(HF_TOKEN=TOKEN)
    assert (outcome.code, outcome.told["commit"], outcome.told["name"]) == (0, None, "model")
    assert outcome.told["modules"] == []
    assert not machine.hub.log
