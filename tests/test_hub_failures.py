"""The Hub when it fails: what is tried again, what a cached copy is good for, and what is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoint_bytes import BERT, tensors
from hub_machine import Machine, machine_with_hub
from hub_server import Answer, Fault, Route, etag_of


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with machine_with_hub(tmp_path) as given:
        yield given


def test_a_download_that_is_cut_goes_on_where_it_stopped(machine: Machine) -> None:
    # huggingface_hub writes in blocks of 10 MiB; less than that is not kept.
    weights = tensors(rows=12 * 1024)
    machine.publish({**BERT, "model.safetensors": weights})
    machine.hub.faults = [Fault("/large/", times=1, cut_after=11 * 1024 * 1024)]
    outcome = machine.resolve()
    assert outcome.code == 0
    assert Path(outcome.told["folder"], "model.safetensors").read_bytes() == weights
    ranges = [seen.range for seen in machine.hub.requested("/large/")]
    assert ranges == [None, f"bytes={10 * 1024 * 1024}-"]
    assert "trying again in 1 s" in outcome.stderr


def test_a_download_that_is_cut_every_time_ends_in_one_clear_line(machine: Machine) -> None:
    machine.publish()
    machine.hub.faults = [Fault("/large/", times=99, cut_after=1000)]
    outcome = machine.resolve()
    assert outcome.code == 1
    assert "broke off several times" in outcome.error
    waits = re.findall(r"trying again in (\d+) s", outcome.stderr)
    assert waits == ["1", "2", "4"]


def test_a_hub_that_fails_once_is_asked_again(machine: Machine) -> None:
    machine.publish()
    slow_down = {"Retry-After": "0"}
    machine.hub.faults = [
        Fault("/api/models/", times=1, status=500),
        Fault("config.json", times=1, status=500, method="HEAD"),
        Fault("config.json", times=1, status=429, headers=slow_down),
        Fault("/large/", times=1, status=503),
    ]
    outcome = machine.resolve()
    assert outcome.code == 0
    assert all(fault.times == 0 for fault in machine.hub.faults)


def test_a_listing_that_fails_in_the_middle_of_a_download_is_no_lasting_harm(
    machine: Machine,
) -> None:
    machine.publish()
    machine.resolve()
    newer = machine.hub.repositories["org/model"].commit({**BERT, "vocab.txt": b"new"})
    listed = len(machine.hub.requested("/api/models/"))
    machine.hub.faults = [Fault("/revision/main", times=1, status=500)]
    outcome = machine.resolve()
    assert outcome.told["commit"] == newer
    assert "vocab.txt" in outcome.told["files"]
    assert len(machine.hub.requested("/api/models/")) > listed


@pytest.mark.parametrize(("status", "advice"), [(429, "too many requests"), (502, "later")])
def test_a_hub_that_keeps_failing_is_reported_by_its_status(
    status: int, advice: str, machine: Machine
) -> None:
    machine.publish()
    faults = {"status": status, "headers": {"Retry-After": "0"}}
    machine.hub.faults = [Fault("/api/models/", times=99, **faults)]
    outcome = machine.resolve()
    assert outcome.code == 1
    assert f"HTTP {status}" in outcome.error
    assert advice in outcome.error


def test_without_network_the_cached_copy_is_used_and_said_to_be(machine: Machine) -> None:
    commit = machine.publish()
    assert machine.resolve().code == 0
    outcome = machine.resolve(HF_ENDPOINT="http://127.0.0.1:9")
    assert (outcome.code, outcome.told["commit"]) == (0, commit)
    assert "http://127.0.0.1:9 cannot be reached" in outcome.stderr
    assert "WARNING:retort.stages.resolve:org/model:" in outcome.stderr
    assert f"using the cached copy of org/model at commit {commit}" in outcome.stderr
    exact = machine.resolve(HF_ENDPOINT="http://127.0.0.1:9", revision=commit)
    assert (exact.code, "WARNING" in exact.stderr) == (0, False)


def test_without_network_and_cached_copy_the_endpoint_is_named(machine: Machine) -> None:
    outcome = machine.resolve(HF_ENDPOINT="http://user:password@127.0.0.1:9")
    assert outcome.code == 1
    assert "http://127.0.0.1:9 cannot be reached" in outcome.error


def test_offline_mode_asks_nothing_and_needs_a_cached_copy(machine: Machine) -> None:
    commit = machine.publish()
    without = machine.resolve(HF_HUB_OFFLINE="1")
    assert without.code == 2
    assert "HF_HUB_OFFLINE" in without.error
    assert not machine.hub.log
    machine.resolve(with_weights=False)
    asked = len(machine.hub.log)
    partial = machine.resolve(HF_HUB_OFFLINE="1")
    assert "no model.safetensors" in partial.error
    assert "cached copy" in partial.error
    whole = machine.resolve(HF_HUB_OFFLINE="1", with_weights=False)
    assert whole.told["commit"] == commit
    assert len(machine.hub.log) == asked


def test_something_else_than_a_hub_is_recognised(machine: Machine) -> None:
    page = Answer(200, b"<html>Please log in to this network</html>")
    machine.hub.routes = [Route(("GET",), ".*", lambda _: page)]
    assert "does not answer as the Hub does" in machine.resolve().error
    machine.hub.routes.clear()
    assert "does not answer as the Hub does" in machine.resolve().error


def test_a_full_disk_is_called_one(machine: Machine) -> None:
    machine.publish()
    blobs = machine.home / "hub" / "models--org--model" / "blobs"
    blobs.mkdir(parents=True)
    partial = blobs / f"{etag_of('model.safetensors', tensors())}.incomplete"
    partial.symlink_to("/dev/full")
    outcome = machine.resolve()
    assert outcome.code == 1
    assert "the disk is full" in outcome.error
    assert "--cache_dir" in outcome.error
