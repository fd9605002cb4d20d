"""Checkpoints whose queries and documents go different ways: sentence-transformers' Router."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from converted import converted
from hub_machine import Machine, machine_with_hub
from local_models import refusal, resolved
from splade_checkpoints import build_inference_free, build_masked_lm
from splade_references import assert_agrees, cases, inference_free

from onnx_configs import choose_family, families
from retort.arguments import ExportArguments
from retort.errors import InputError

FAMILY = families()["splade"]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with machine_with_hub(tmp_path) as given:
        yield given


def test_a_router_is_recognised_by_its_documents_side() -> None:
    checkpoint = resolved(inference_free().checkpoint)
    assert checkpoint.subfolder == "document_0_MLMTransformer"
    assert choose_family(checkpoint, ExportArguments()).name == "splade"


def test_a_router_whose_backbone_stands_in_the_root_is_converted_too(tmp_path: Path) -> None:
    checkpoint = build_inference_free(tmp_path / "checkpoint", backbone_in_root=True)
    result = converted(checkpoint)
    for case in cases(checkpoint):
        assert_agrees(result.folder / "onnx/model.onnx", case)


def change_router(checkpoint: Path, old: str, new: str) -> None:
    path = checkpoint / "router_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_a_router_with_a_model_for_its_queries_is_refused(tmp_path: Path) -> None:
    folder = build_inference_free(tmp_path / "checkpoint")
    change_router(folder, "SparseStaticEmbedding.SparseStaticEmbedding", "MLMTransformer")
    with pytest.raises(InputError, match="queries go through MLMTransformer"):
        FAMILY.check(resolved(folder), ExportArguments())


def test_a_router_whose_sides_have_other_vocabularies_is_refused(tmp_path: Path) -> None:
    folder = build_inference_free(tmp_path / "checkpoint", "distilbert")
    other = build_masked_lm(tmp_path / "other", "roberta")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(other / file, folder / "query_0_SparseStaticEmbedding" / file)
    with pytest.raises(InputError, match="another vocabulary than the documents'"):
        FAMILY.check(resolved(folder), ExportArguments())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("document_0_MLMTransformer", "../elsewhere", "leads out of the checkpoint"),
        ("document_0_MLMTransformer", "absent", "absent/config.json: not found"),
        ('"types"', '"kinds"', "not as sentence-transformers saves it"),
        ("sentence_transformers.sparse_encoder.models.MLM", "mine.MLM", "Python code that it brin"),
    ],
)
def test_a_router_that_names_what_is_not_there_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    folder = build_inference_free(tmp_path / "checkpoint")
    change_router(folder, old, new)
    assert message in refusal(folder)


def test_both_sides_of_a_router_come_from_the_hub(machine: Machine, tmp_path: Path) -> None:
    folder = build_inference_free(tmp_path / "checkpoint")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    machine.publish({**files, "elsewhere/model.safetensors": b"not named by the router"})
    outcome = machine.resolve()
    assert outcome.code == 0, outcome.stderr
    fetched = Path(outcome.told["folder"])
    assert {path.relative_to(fetched).as_posix() for path in fetched.rglob("*.*")} == set(files)
