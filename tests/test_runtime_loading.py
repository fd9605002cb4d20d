"""How a converted folder is opened, and how the runtime tells what it cannot use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper
from runtime_folders import (
    merge_json,
    opened_embedding,
    tiny_checkpoint,
    tiny_embedding_folder,
    write_json,
    write_modules,
)

from retort.errors import InputError
from retort.runtime import EmbeddingModel, load
from retort.runtime.batching import sorted_batches

SHORT_TEXTS = ["One two three.", "Seven", "", "From Delhi to Agra by bus", "ABC Def"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    folder = tmp_path_factory.mktemp("pooled")
    return tiny_embedding_folder(checkpoint, folder, is_pooled=True)


@pytest.fixture
def pooled(tmp_path: Path, template: Path) -> Path:
    """Return a folder of one's own, described as mean pooling and unit length."""
    folder = tmp_path / "pooled"
    shutil.copytree(template, folder)
    write_modules(folder, {"pooling_mode_mean_tokens": True}, ("Normalize",))
    return folder


def test_the_graph_is_found_by_name_and_by_default(pooled: Path, tmp_path: Path) -> None:
    quantized = pooled / "onnx" / "model_quantized.onnx"
    shutil.copyfile(pooled / "onnx" / "model.onnx", quantized)
    for name in ("model_quantized.onnx", "onnx/model_quantized.onnx", None):
        assert opened_embedding(pooled, name).dimension == 16
    (pooled / "onnx" / "model.onnx").unlink()
    assert opened_embedding(pooled).dimension == 16
    shutil.copyfile(quantized, pooled / "model_extra.onnx")
    with pytest.raises(InputError, match=r"one of model_extra.onnx, onnx/model_quantized.onnx"):
        load(pooled)
    with pytest.raises(InputError, match=r"has no other.onnx: give file_name, one of"):
        load(pooled, "other.onnx")
    quantized.rename(pooled / "model.onnx")
    assert opened_embedding(pooled).dimension == 16


def test_what_cannot_be_opened_is_told_in_one_line(pooled: Path, tmp_path: Path) -> None:
    def complaint(pattern: str, file_name: str | None = None) -> None:
        with pytest.raises(InputError, match=pattern) as caught:
            load(pooled, file_name)
        assert "\n" not in str(caught.value)

    with pytest.raises(InputError, match="is not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no \.onnx file"):
        load(tmp_path / "pooled" / "1_Pooling")
    for name, content in (("junk.onnx", b"not a graph" * 9), ("empty.onnx", b"")):
        (pooled / name).write_bytes(content)
        complaint("cannot be opened by onnxruntime", name)
    (pooled / "tokenizer.json").write_text("{}")
    complaint("describes no tokenizer")
    (pooled / "tokenizer.json").write_text('{"model": ')
    complaint("cannot be read as JSON")
    (pooled / "tokenizer.json").unlink()
    complaint("tokenizer.json is missing")


def change_graph(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    path = folder / "onnx" / "model.onnx"
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, path)


def test_the_family_is_read_from_the_graph_then_conversion_json_then_the_outputs(
    pooled: Path,
) -> None:
    assert isinstance(load(pooled), EmbeddingModel)
    write_json(pooled / "conversion.json", {"family": "token_classification"})
    with pytest.raises(InputError, match="has no id2label"):
        load(pooled)
    change_graph(pooled, lambda graph: helper.set_model_props(graph, {"family": "embedding"}))
    assert isinstance(load(pooled), EmbeddingModel)
    change_graph(pooled, lambda graph: helper.set_model_props(graph, {"family": "colour"}))
    with pytest.raises(InputError, match="family colour, but load knows embedding, token_class"):
        load(pooled)


def test_a_graph_with_unknown_inputs_or_outputs_is_refused(pooled: Path) -> None:
    def rename_outputs(model: onnx.ModelProto) -> None:
        for index, output in enumerate(model.graph.output):
            for node in model.graph.node:
                for place, name in enumerate(node.output):
                    if name == output.name:
                        node.output[place] = f"out{index}"
                for place, name in enumerate(node.input):
                    if name == output.name:
                        node.input[place] = f"out{index}"
            output.name = f"out{index}"

    change_graph(pooled, rename_outputs)
    with pytest.raises(InputError, match="has the outputs out0, out1, which are not those of"):
        load(pooled)
    extra = helper.make_tensor_value_info("position_ids", onnx.TensorProto.INT64, ["batch", "n"])
    change_graph(pooled, lambda model: model.graph.input.append(extra))
    with pytest.raises(InputError, match="asks for the inputs position_ids"):
        load(pooled)


def test_a_text_that_the_graph_cannot_take_is_told(pooled: Path) -> None:
    merge_json(pooled / "tokenizer_config.json", {"model_max_length": 512})
    merge_json(pooled / "config.json", {"max_position_embeddings": 512})
    with pytest.raises(InputError, match=r"failed on input_ids of shape \[1, 102\] "):
        opened_embedding(pooled).encode("x " * 100)


def test_unusable_options_are_told(pooled: Path) -> None:
    with pytest.raises(InputError, match="has no NoSuchProvider: choose from"):
        load(pooled, providers=["NoSuchProvider"])
    with pytest.raises(InputError, match="threads must be at least 1"):
        load(pooled, threads=0)
    with pytest.raises(InputError, match="at most 1024, not 100000"):
        load(pooled, threads=100_000)
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        opened_embedding(pooled).encode("text", batch_size=0)


@pytest.mark.parametrize("texts", [None, 3, b"bytes", ["good", None], ["good", b"bytes"], [3]])
def test_what_is_not_a_text_is_refused(pooled: Path, texts: object) -> None:
    with pytest.raises(InputError, match="str"):
        opened_embedding(pooled).encode(texts)  # type: ignore[arg-type]


def test_half_a_surrogate_pair_is_refused(pooled: Path) -> None:
    with pytest.raises(InputError, match="half a surrogate pair"):
        opened_embedding(pooled).encode(["good", "bad \ud83d"])


def test_batches_hold_texts_of_like_length_the_longest_first() -> None:
    assert list(sorted_batches([3, 9, 1, 9, 4], 2)) == [[1, 3], [4, 0], [2]]
    assert list(sorted_batches([], 2)) == []


def test_a_progress_bar_appears_only_when_asked_for_or_on_a_terminal(
    pooled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = opened_embedding(pooled)
    model.encode(SHORT_TEXTS, batch_size=1)
    model.encode(SHORT_TEXTS, batch_size=1, show_progress=False)
    assert capsys.readouterr() == ("", "")
    model.encode(SHORT_TEXTS, batch_size=1, show_progress=True)
    assert "5/5" in capsys.readouterr().err


def test_using_a_folder_imports_neither_torch_nor_transformers(pooled: Path) -> None:
    script = (
        "import sys; from retort.runtime import load; "
        "load(sys.argv[1]).encode(['a', 'b c'], batch_size=1, show_progress=True); "
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'optimum', 'onnx'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(pooled)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
