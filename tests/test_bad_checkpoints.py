"""Checkpoints that cannot be converted: one line, an exit code, and nothing written or harmed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import convert_here, earlier_result, listing, refused
from safetensors.torch import load_file, save_file
from tiny_checkpoints import build_encoder, build_sentence_transformer, build_token_classifier
from tiny_variants import REMOTE_MODULE, as_pickle, with_remote_code

from retort.json_files import read_object, write_json

Capture = pytest.CaptureFixture[str]
Change = Callable[[Path], Any]
LABELS = {"id2label": {"0": "O", "1": "B-X"}, "label2id": {"O": 0, "B-X": 1}}
# A factor that the tracer takes for a constant: the graph is right for one length only.
BAKED_IN_LENGTH = """
    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **settings):
        outputs = super().forward(input_ids, attention_mask, token_type_ids, **settings)
        outputs["last_hidden_state"] = outputs["last_hidden_state"] * float(input_ids.shape[1])
        return outputs
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return where a test builds its checkpoint."""
    return tmp_path / "source" / "model"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder for results with the result of an earlier run in it."""
    return earlier_result(tmp_path / "out")


def config(**values: object) -> Change:
    return changed("config.json", **values)


def changed(name: str, **values: object) -> Change:
    def change(folder: Path) -> None:
        write_json(folder / name, {**read_object(folder / name), **values})

    return change


def cut(name: str) -> Change:
    def cut_in_half(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return cut_in_half


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def without_last_layer(folder: Path) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("encoder.layer.1.")]:
            del tensors[name]

    rewrite_weights(folder, drop)


@dataclass(frozen=True)
class Case:
    """A checkpoint that is refused: how it comes about, the options, and what the line holds."""

    change: Change
    said: tuple[str, ...]
    options: tuple[str, ...] = ()
    build: Callable[[Path, str], Path] = build_encoder


CASES = {
    "a model type that transformers does not know": Case(
        config(model_type="nobody_knows"), ("architecture nobody_knows", "supported architectures")
    ),
    "an architecture that Optimum cannot export": Case(
        config(model_type="reformer", architectures=["ReformerModel"]),
        ("architecture reformer for feature-extraction", "supported architectures"),
    ),
    "a model of no family": Case(
        config(architectures=["BertForMultipleChoice"]),
        ("BertForMultipleChoice", "not recognised", "--family"),
    ),
    "a model of two families": Case(
        config(architectures=["BertForTokenClassification"]),
        ("embedding or token_classification", "--family"),
        build=build_sentence_transformer,
    ),
    "architectures that are no names": Case(
        config(architectures=[3]), ("config.json", "architectures")
    ),
    "a length that is no number": Case(
        changed("tokenizer_config.json", model_max_length="long"),
        ("tokenizer_config.json", "model_max_length"),
    ),
    "cut safetensors": Case(cut("model.safetensors"), ("model.safetensors", "again")),
    "a cut tokenizer": Case(cut("tokenizer.json"), ("tokenizer.json", "again")),
    "a cut configuration": Case(cut("config.json"), ("config.json", "again")),
    "no weights": Case(
        without("model.safetensors"), ("no model.safetensors", "save_pretrained(folder)")
    ),
    "weights without a layer": Case(
        without_last_layer, ("encoder.layer.1.",), ("--optimize", "0", "--skip_validation")
    ),
    "an encoder called a token classifier": Case(
        config(**LABELS),
        ("classifier.bias",),
        ("--optimize", "0", "--skip_validation", "--family", "token_classification"),
    ),
    "pickle weights": Case(as_pickle, ("pytorch_model.bin", "--allow_pickle")),
    "code of its own": Case(
        with_remote_code, (f"{REMOTE_MODULE}.TinyRemoteModel", "--trust_remote_code")
    ),
    "a pooling beside that of modules.json": Case(
        config(), ("modules.json", "drop --pooling"), ("--pooling", "cls"),
        build=build_sentence_transformer,
    ),
    "a pooling for a token classifier": Case(
        config(), ("--pooling is for embedding", "token_classification"), ("--pooling", "cls"),
        build=build_token_classifier,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_cannot_be_converted_is_told_in_one_line_and_the_old_result_stays(
    case: Case, source: Path, out: Path, capfd: Capture
) -> None:
    case.change(case.build(source, "bert"))
    line = refused(capfd, source, out, "--force", *case.options)
    assert all(words in line for words in case.said), line


def test_tensors_of_another_shape_fail_and_the_line_says_which(
    source: Path, out: Path, capfd: Capture
) -> None:
    build_encoder(source, "bert")
    short = {"encoder.layer.0.output.dense.bias": torch.zeros(3)}
    rewrite_weights(source, lambda tensors: tensors.update(short))
    assert "size mismatch" in refused(capfd, source, out, "--force", code=1)


class Trap:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_of_more_than_tensors_is_not_loaded(
    source: Path, out: Path, capfd: Capture
) -> None:
    as_pickle(build_encoder(source, "bert"))
    torch.save({"weight": Trap(source / "sprung")}, source / "pytorch_model.bin")
    line = refused(capfd, source, out, "--force", "--allow_pickle", code=1)
    assert "pytorch_model.bin" in line


@pytest.mark.parametrize(
    ("change", "flag"), [(as_pickle, "--allow_pickle"), (with_remote_code, "--trust_remote_code")]
)
def test_what_needs_a_flag_is_converted_with_it(
    change: Change, flag: str, source: Path, tmp_path: Path, capfd: Capture
) -> None:
    change(build_encoder(source, "bert"))
    before = listing(source)
    words = ("--model_id", source, "--output_parent_dir", tmp_path, "--skip_validation", flag)
    ended = convert_here(capfd, *words)
    assert (ended.code, ended.stdout) == (0, f"{tmp_path / 'model'}\n"), ended
    assert listing(source) == before


def test_a_graph_that_disagrees_with_the_model_misses_fidelity_and_is_not_kept(
    source: Path, out: Path, capfd: Capture
) -> None:
    code = with_remote_code(build_encoder(source, "bert")) / f"{REMOTE_MODULE}.py"
    code.write_text(code.read_text(encoding="utf-8") + BAKED_IN_LENGTH, encoding="utf-8")
    options = ("--force", "--optimize", "0", "--trust_remote_code")
    line = refused(capfd, source, out, *options, code=3)
    assert "onnx/model.onnx: differs from sentence-transformers" in line
