"""A whole conversion of a model on the Hub, and again without any network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from hub_machine import TOKEN, Machine, machine_with_hub
from tiny_checkpoints import build_sentence_transformer

import convert as convert_module
from retort.runtime import load


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    return build_sentence_transformer(folder, "bert", prompts={"query": "ask: "})


@pytest.fixture
def machine(tmp_path: Path, checkpoint: Path) -> Iterator[Machine]:
    files = {
        path.relative_to(checkpoint).as_posix(): path.read_bytes()
        for path in checkpoint.rglob("*")
        if path.is_file()
    }
    with machine_with_hub(tmp_path) as given:
        given.publish(files, private=True, readers={"reader"})
        yield given


def convert(
    machine: Machine, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run convert.py as a user of this machine, for the model org/model."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    here = {"HF_ENDPOINT": machine.hub.address, "HF_HOME": str(machine.home / "cache")}
    command = [sys.executable, convert_module.__file__, "--model_id", "org/model"]
    return subprocess.run(
        [*command, "--skip_validation", "--optimize", "0", *options],
        env=known | here | environment,
        cwd=machine.home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_private_model_is_converted_with_a_token_and_then_offline_from_the_cache(
    machine: Machine,
) -> None:
    commit = machine.hub.repositories["org/model"].refs["main"]
    refused = convert(machine)
    assert refused.returncode == 2
    assert "--token" in refused.stderr

    done = convert(machine, "--token", TOKEN)
    assert done.returncode == 0, done.stderr
    folder = machine.home / "models" / "org" / "model"
    assert done.stdout.strip() == "models/org/model"

    record = (folder / "conversion.json").read_text(encoding="utf-8")
    assert TOKEN not in record
    assert json.loads(record)["source"]["commit"] == commit
    graph = onnx.load(folder / "onnx" / "model.onnx")
    assert {p.key: p.value for p in graph.metadata_props}["commit"] == commit
    assert load(folder).prompts["query"] == "ask: "

    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    again = convert(machine, "--force", **offline)
    assert again.returncode == 0, again.stderr
