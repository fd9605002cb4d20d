"""``colbert_export``'s functions: signatures, files, returns, and what they leave alone."""

from __future__ import annotations

import inspect
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from colbert_checkpoints import EMBEDDING_DIM
from colbert_exports import (
    SETTINGS,
    checkpoint,
    exported,
    exported_copy,
    first_export,
    python,
    token_cosines,
)
from command_line import contents
from converted import files_of
from found_graphs import pylate_export
from tokenizers import Tokenizer

import colbert_export
from retort import __version__
from retort.errors import InputError, RetortError

FIELDS = {
    "model_type": str, "model_name": str, "model_class": str, "uses_token_type_ids": bool,
    "query_prefix": str, "document_prefix": str, "query_length": int, "document_length": int,
    "do_query_expansion": bool, "attend_to_expansion_tokens": bool, "skiplist_words": list,
    "embedding_dim": int, "mask_token_id": int, "pad_token_id": int, "query_prefix_id": int,
    "document_prefix_id": int, "do_lower_case": bool,
}  # fmt: skip
TOLD = {"conversion.json", "README.md", "report.html"}  # what tells of a folder's graphs


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return an export, to be changed."""
    return exported_copy(tmp_path / "model")


def test_the_signatures_are_the_documented_ones() -> None:
    def parameters(function: Callable[..., object]) -> dict[str, object]:
        return {p.name: p.default for p in inspect.signature(function).parameters.values()}

    required = inspect.Parameter.empty
    assert parameters(colbert_export.export_model) == {
        "model_name": required,
        "output_dir": None,
        "quantize": False,
        "verbose": True,
        "force": False,
    }
    assert parameters(colbert_export.quantize_model) == {"model_dir": required, "verbose": True}
    assert parameters(colbert_export.push_to_hub) == {
        "model_dir": required,
        "repo_id": required,
        "private": False,
        "verbose": True,
    }
    assert colbert_export.__version__ == __version__


def test_export_model_returns_the_folder_and_says_nothing_unless_verbose() -> None:
    done = first_export()
    assert (done.stdout, done.stderr) == (f"{exported()!r}\n", "")


def test_the_folder_has_every_documented_file() -> None:
    assert {"model.onnx", "model_int8.onnx", "tokenizer.json", *SETTINGS} <= files_of(exported())


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_have_all_17_documented_fields(name: str) -> None:
    settings = json.loads((exported() / name).read_text(encoding="utf-8"))
    assert {key: type(settings[key]) for key in FIELDS} == FIELDS
    assert len(FIELDS) == 17
    assert settings["model_type"] == "ColBERT"
    assert settings["embedding_dim"] == EMBEDDING_DIM
    tokenizer = Tokenizer.from_file(str(exported() / "tokenizer.json"))
    assert tokenizer.token_to_id(settings["query_prefix"]) == settings["query_prefix_id"]
    assert tokenizer.token_to_id(settings["document_prefix"]) == settings["document_prefix_id"]


def test_the_graph_takes_two_inputs_and_gives_normalised_token_embeddings() -> None:
    session = onnxruntime.InferenceSession(exported() / "model.onnx")
    assert [item.name for item in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert session.get_outputs()[0].name == "output"
    ids = np.ones((2, 5), np.int64)
    (found,) = session.run(["output"], {"input_ids": ids, "attention_mask": ids})
    assert found.shape == (2, 5, EMBEDDING_DIM)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)


def test_the_8_bit_file_of_an_export_is_close_to_its_fp32_file() -> None:
    found = token_cosines(exported() / "model.onnx", exported() / "model_int8.onnx")
    assert found.mean() > 0.99


def test_an_export_is_looked_for_below_models_by_the_model_s_last_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("other", tmp_path.name):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.onnx").write_text("there")
    assert colbert_export.export_model("org/other") == Path("models/other")
    assert colbert_export.export_model("somewhere/other/") == Path("models/other")
    assert colbert_export.export_model(".") == Path("models", tmp_path.name)


def test_a_folder_with_a_graph_is_returned_as_it_is(copy: Path) -> None:
    (copy / "model.onnx").write_text("not even a graph")
    before = contents(copy)
    assert colbert_export.export_model("no/such-model", copy, quantize=True) == copy
    assert contents(copy) == before


def test_a_folder_with_a_graph_gets_the_8_bit_file_that_it_lacks(copy: Path) -> None:
    (copy / "model_int8.onnx").unlink()
    before = contents(copy)
    assert colbert_export.export_model("no/such-model", copy, verbose=False) == copy
    assert contents(copy) == before
    colbert_export.export_model("no/such-model", copy, quantize=True, verbose=False)
    after = contents(copy)
    assert after.keys() - before.keys() == {"model_int8.onnx"}
    assert {name for name in before if before[name] != after[name]} == TOLD


def test_force_makes_the_folder_anew(copy: Path) -> None:
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").write_text("damaged")
    colbert_export.export_model(str(checkpoint()), copy, verbose=False, force=True)
    assert token_cosines(copy / "model.onnx", exported() / "model.onnx").min() > 0.9999
    assert not (copy / "model_int8.onnx").exists()


def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="move the folder away, or choose another"):
        colbert_export.export_model(str(checkpoint()), tmp_path, verbose=False)
    assert contents(tmp_path).keys() == {"notes.txt"}


def test_a_checkpoint_that_is_no_colbert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RetortError):
        colbert_export.export_model(str(tmp_path), tmp_path / "out", verbose=False)
    assert not (tmp_path / "out").exists()


# The 8-bit file of a folder that is there


def test_quantize_model_returns_the_path_of_the_8_bit_file(copy: Path) -> None:
    (copy / "model_int8.onnx").unlink()
    path = colbert_export.quantize_model(str(copy), verbose=False)
    assert path == copy / "model_int8.onnx"
    assert token_cosines(copy / "model.onnx", path).mean() > 0.99
    assert path.stat().st_size < 0.6 * (copy / "model.onnx").stat().st_size


def test_quantize_model_takes_the_folder_of_the_old_tool(tmp_path: Path) -> None:
    folder = shutil.copytree(pylate_export(), tmp_path / "model")
    path = colbert_export.quantize_model(folder, verbose=False)
    assert token_cosines(folder / "model.onnx", path).mean() > 0.99
    assert files_of(folder) - files_of(pylate_export()) == {"model_int8.onnx"}
    made = onnx.load(path)
    assert made.ir_version <= 9
    assert [opset.domain for opset in made.opset_import] == [""]


def test_the_other_names_of_the_8_bit_file_keep_their_bytes_and_their_record(copy: Path) -> None:
    record = json.loads((copy / "conversion.json").read_text(encoding="utf-8"))
    assert record["links"]["model_int8.onnx"] == "onnx/model_quantized.onnx"
    before = contents(copy)
    colbert_export.quantize_model(copy, verbose=False)
    after = contents(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"model_int8.onnx", *TOLD}


def test_conversion_json_tells_of_the_new_file_and_that_it_was_not_measured(copy: Path) -> None:
    before = json.loads((copy / "conversion.json").read_text(encoding="utf-8"))
    path = colbert_export.quantize_model(copy, verbose=False)
    after = json.loads((copy / "conversion.json").read_text(encoding="utf-8"))
    assert (before["validated"], after["validated"]) == (True, False)
    assert after["validation"] == before["validation"]
    entry = after["files"].pop("model_int8.onnx")
    assert after["files"] == before["files"]
    assert before["links"].pop("model_int8.onnx") == "onnx/model_quantized.onnx"
    assert after["links"] == before["links"]
    assert entry["precision"] == "QInt8"
    assert [step["name"] for step in entry["steps"]] == ["export", "place", "quantize", "place"]
    assert entry["steps"][2]["settings"]["from"] == "model.onnx"
    assert entry["steps"][3]["bytes"] == path.stat().st_size


@pytest.mark.parametrize("function", [colbert_export.quantize_model, colbert_export.push_to_hub])
def test_a_missing_graph_is_a_file_not_found_error_too(
    function: Callable[..., object], tmp_path: Path
) -> None:
    more = ["org/model"] if function is colbert_export.push_to_hub else []
    for folder in (tmp_path, tmp_path / "nope"):
        with pytest.raises(FileNotFoundError, match=r"model\.onnx: no such file") as caught:
            function(folder, *more)
        assert isinstance(caught.value, InputError)


def test_a_graph_that_cannot_be_quantized_leaves_the_old_8_bit_file(copy: Path) -> None:
    shutil.copyfile(copy / "onnx" / "model_quantized.onnx", copy / "quantized")
    (copy / "model.onnx").unlink()
    (copy / "quantized").rename(copy / "model.onnx")
    before = contents(copy)
    with pytest.raises(InputError, match="already quantized"):
        colbert_export.quantize_model(copy)
    assert contents(copy) == before


# What is said


def test_a_program_that_has_set_up_no_logging_hears_what_is_done(copy: Path) -> None:
    done = python(
        "import sys, logging, colbert_export as c; c.quantize_model(sys.argv[1]); "
        "c.export_model('org/model', sys.argv[1]); "
        "assert not logging.getLogger('retort').handlers",
        copy,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "MB → model_int8.onnx" in done.stderr
    assert f"{copy / 'model.onnx'} exists and is left as it is" in done.stderr


def test_a_program_s_own_logging_is_used_and_left_as_it_was(
    copy: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    retort = logging.getLogger("retort")
    before = (list(retort.handlers), retort.level, retort.propagate)
    with caplog.at_level(logging.INFO, logger="root"):
        colbert_export.quantize_model(copy)
        assert "model_int8.onnx" in caplog.text
        caplog.clear()
        colbert_export.quantize_model(copy, verbose=False)
        assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    assert (list(retort.handlers), retort.level, retort.propagate) == before
