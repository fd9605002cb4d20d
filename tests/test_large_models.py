"""Graphs beyond 2 GB, tried with small limits, and checkpoints as large models are saved."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from agreement import FP32_TOLERANCE, largest_difference, sentence_cases
from converted import Converted, converted, workshop
from safetensors.torch import load_file, save_file
from staged import ARGUMENTS, checkpoint, optimized, portable
from tiny_checkpoints import build_sentence_transformer
from visual_checkpoints import build_colqwen2
from visual_images import noise
from visual_references import QUERIES, TOLERANCE, Theirs, opened

from onnx_configs import families
from retort.graphs import external_data, session
from retort.stages import validate as validation
from retort.stages.validate import load_reference, validate


def in_bfloat16_shards(folder: Path) -> Path:
    """Rewrite a checkpoint's weights as bfloat16 in two files and their index."""
    whole = folder / "model.safetensors"
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(whole).items()}
    whole.unlink()
    names = sorted(weights)
    places = {}
    for number, half in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({n: weights[n] for n in half}, folder / shard, metadata={"format": "pt"})
        places |= dict.fromkeys(half, shard)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def as_beyond_2_gb() -> Iterator[None]:
    """Let PyTorch write a file for each tensor, as it does for large graphs, and no file hold all.

    Of Optimum and of our own limit only the size is pretended.
    """
    traced = torch.onnx.export

    def export(*args: Any, f: str, **options: Any) -> None:
        traced(*args, f=f, **options)
        kept = {"save_as_external_data": True, "all_tensors_to_one_file": False}
        onnx.save(onnx.load(f), f, size_threshold=64, convert_attribute=True, **kept)

    with pytest.MonkeyPatch.context() as pretended:
        pretended.setattr(torch.onnx, "export", export)
        pretended.setattr(external_data, "LARGEST_SINGLE_FILE", 1000)
        yield


@cache
def large() -> Converted:
    """Return a decoder, which no fusion of Optimum's knows, from bfloat16 shards."""
    folder = build_sentence_transformer(workshop() / "large", "qwen3", pooling=("lasttoken",))
    return converted(in_bfloat16_shards(folder), quantize=["QInt8", "Float16"], layout="both")


@pytest.mark.usefixtures("as_beyond_2_gb")
def test_what_pytorch_writes_in_many_files_becomes_one_that_is_declared() -> None:
    folder = large().folder
    model = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)
    places = {e.value for t in model.graph.initializer for e in t.external_data[:1]}
    assert places == {"model.onnx_data"}
    data = {path.name for path in (folder / "onnx").iterdir() if path.suffix != ".onnx"}
    declared = large().json("config.json")["transformers.js_config"]["use_external_data_format"]
    assert {f"{name}_data" for name in declared} == data
    assert {"model.onnx_data", "model_opt1.onnx_data"} <= data


@pytest.mark.usefixtures("as_beyond_2_gb")
def test_every_graph_of_bfloat16_shards_agrees_with_the_model() -> None:
    cases = sentence_cases(large().checkpoint)
    for name in ("model.onnx", "onnx/model.onnx", "onnx/model_opt1.onnx"):
        worst, where = largest_difference(large().folder / name, cases)
        assert worst <= FP32_TOLERANCE, f"{name}: {where}"
    assert {"onnx/model_quantized.onnx", "onnx/model_fp16.onnx"} <= set(large().graphs)


@pytest.mark.usefixtures("as_beyond_2_gb")
def test_a_page_model_of_bfloat16_shards_agrees_too() -> None:
    folder = in_bfloat16_shards(build_colqwen2(workshop() / "large-colqwen2"))
    ours = opened(converted(folder, optimize=0).folder)
    theirs = Theirs.opened(folder)
    theirs.model.float()
    for got, wanted in (
        (ours.encode_queries(QUERIES), theirs.queries(QUERIES)),
        (ours.encode_images([noise(61, 97)]), theirs.images([noise(61, 97)])),
    ):
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=TOLERANCE)


def test_large_files_are_measured_one_at_a_time_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family = families()["embedding"]
    reference = load_reference(family, checkpoint(), ARGUMENTS)
    files = {"portable": portable(), "optimized": optimized()}
    texts = validation.validation_texts()[:16]
    monkeypatch.setattr(validation, "validation_texts", lambda: texts)

    def figures() -> list[tuple[object, ...]]:
        report = validate(files, family, reference, vocabulary=90, progress=False)
        return [
            (r.file, r.fidelity_mean, r.fidelity_min, r.largest_difference, r.worst_case)
            for r in report.files
        ]

    together, opens = figures(), []
    monkeypatch.setattr(validation, "LARGEST_SINGLE_FILE", 1)
    kept = validation.kept_on_disk
    monkeypatch.setattr(
        validation, "kept_on_disk", lambda *given: opens.append(given) or kept(*given)
    )
    assert figures() == together
    assert len(opens) == 1, "it went by the disk"


def test_the_model_is_let_go_before_large_graphs_are_opened_and_loads_again_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family = families()["embedding"]
    reference = load_reference(family, checkpoint(), ARGUMENTS)
    inputs = reference.tokenize(["one text"], "right")
    expected = reference.run(inputs)["sentence_embedding"]
    held = weakref.ref(reference.loaded)
    opened_beside: list[bool] = []

    def open_session(path: Path, **options: bool) -> Any:
        opened_beside.append(held() is not None)
        return session.open_session(path, **options)

    monkeypatch.setattr(validation, "LARGEST_SINGLE_FILE", 1)
    monkeypatch.setattr(validation, "open_session", open_session)
    files, texts = {"portable": portable()}, ["a", "two words"]
    validate(files, family, reference, vocabulary=90, progress=False, texts=texts)
    assert opened_beside == [False, False]
    np.testing.assert_array_equal(reference.run(inputs)["sentence_embedding"], expected)
