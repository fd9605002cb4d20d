"""``retort validate``: any tool's folder against the checkpoint that it was made from."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest
from command_line import Ended
from converted import workshop
from found_graphs import anserini_graph, optimum_export, pylate_export, with_external_data
from graph_commands import error_of, folder_of_ours, run
from onnx import TensorProto, helper
from optimum.exporters.onnx import main_export

from retort.talk import third_party_quiet

TEXTS = (
    "a text", "Where is the station?", "x = 1", "Zwei Wörter mehr als vorher, und noch einige",
    "the longest of all these texts goes on for some time, since batch mates must differ",
    "to Goa from Pune tomorrow", "12 March", "who wrote it, and when was that, and where?",
)  # fmt: skip
_ROWS: dict[str, dict[str, Any]] = {}


def source() -> Path:
    """Return the checkpoint that ``folder_of_ours`` is made from."""
    folder_of_ours()
    return workshop() / "commands" / "checkpoint"


@cache
def texts() -> Path:
    path = workshop() / "validate-texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


def validated(
    capture: pytest.CaptureFixture[str], folder: Path, *options: str | Path
) -> dict[str, dict[str, Any]]:
    """Return the rows of a folder's report by file."""
    done = run(capture, "validate", folder, "--texts", texts(), "--json", *options)
    assert done.code == 0, done
    report = json.loads(done.stdout)
    assert report["texts"] == len(TEXTS)
    return {row["file"]: row for row in report["files"]}


def rows_of_ours(capture: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """Return those of the folder that Retort made, which are measured once."""
    if not _ROWS:
        _ROWS.update(validated(capture, folder_of_ours(), "--reference", source()))
    return _ROWS


def renamed_without_pooling(folder: Path) -> Path:
    """Write our 8-bit graph with its tokens alone, as ``token_embeddings``."""
    model = onnx.load(folder_of_ours() / "onnx" / "model_quantized.onnx")
    tokens = next(value for value in model.graph.output if value.name == "last_hidden_state")
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = "token_embeddings" if name == tokens.name else name
    tokens.name = "token_embeddings"
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(tokens)
    del model.graph.output[:]
    model.graph.output.append(kept)
    folder.mkdir()
    onnx.save(model, folder / "tokens.onnx")
    return folder


def without_mask(graph: Path, target: Path) -> Path:
    """Write a graph that takes ``input_ids`` alone, as Anserini has it for BGE."""
    model = onnx.load(graph)
    shape = helper.make_node("Shape", ["input_ids"], ["ids_shape"])
    fills = [
        helper.make_node(
            "ConstantOfShape",
            ["ids_shape"],
            [name],
            value=helper.make_tensor("value", TensorProto.INT64, [1], [filled]),
        )
        for name, filled in (("attention_mask", 1), ("token_type_ids", 0))
    ]
    nodes = [shape, *fills, *model.graph.node]
    del model.graph.node[:], model.graph.input[1:]
    model.graph.node.extend(nodes)
    assert [value.name for value in model.graph.input] == ["input_ids"]
    onnx.save(model, target)
    return target


def test_a_folder_of_ours_has_a_row_for_every_distinct_graph(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = rows_of_ours(capsys)
    files = ["onnx/model.onnx", "onnx/model_opt1.onnx", "onnx/model_quantized.onnx"]
    assert list(rows) == files
    assert [row["precision"] for row in rows.values()] == ["fp32", "fp32", "QInt8"]
    fp32, _, int8 = rows.values()
    assert fp32["largest_difference"] < 1e-5
    assert fp32["fidelity_min"] > int8["fidelity_min"] > 0.7
    assert fp32["batch_mates"] == 1.0
    assert int8["batch_mates"] < 0.99999  # one scale for a batch: texts change their mates
    assert len(fp32["scores"]) >= len(TEXTS)


def test_its_source_is_found_where_conversion_json_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source().parent)
    assert validated(capsys, folder_of_ours())["onnx/model.onnx"]["fidelity_min"] > 0.9999
    monkeypatch.chdir("/")
    error = error_of(run(capsys, "validate", folder_of_ours()))
    assert "made from the local checkpoint checkpoint" in error
    assert "--reference" in error


def test_a_graph_that_leaves_the_pooling_to_its_consumers_is_pooled_as_they_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ours = rows_of_ours(capsys)["onnx/model_quantized.onnx"]
    folder = renamed_without_pooling(tmp_path / "tokens")
    (row,) = validated(capsys, folder, "--reference", source()).values()
    assert row["precision"] == "8 bits"
    assert row["fidelity_mean"] == pytest.approx(ours["fidelity_mean"], abs=1e-6)


def test_graphs_of_optimum_and_pylate_onnx_export_agree_with_their_checkpoints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = workshop() / "found"
    graph = with_external_data(optimum_export() / "model.onnx", tmp_path / "optimum")
    for folder, reference in ((graph.parent, found / "bert"), (pylate_export(), found / "colbert")):
        (row,) = validated(capsys, folder, "--reference", reference).values()
        assert row["file"] == "model.onnx"
        assert row["fidelity_min"] > 0.99999
        assert row["largest_difference"] < 1e-4
        assert row["batch_mates"] == 1.0
        assert row["bytes"] == sum(f.stat().st_size for f in folder.glob("[mw]*") if f.is_file())


def test_a_graph_for_one_text_at_a_time_is_measured_on_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = anserini_graph()
    reference = ("--reference", workshop() / "found" / "masked-lm", "--family", "splade")
    (row,) = validated(capsys, path.parent, *reference).values()
    assert row["fidelity_min"] > 0.99999
    assert row["worst_case"] in ("batch 1", "maximum length", "length 1")
    assert row["batch_mates"] is None


def test_a_masked_language_model_is_measured_by_the_sparse_vectors_of_its_logits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    anserini_graph()
    checkpoint, folder = workshop() / "found" / "masked-lm", tmp_path / "fill-mask"
    with third_party_quiet():
        main_export(str(checkpoint), folder, task="fill-mask", do_validation=False)
    reference = ("--reference", checkpoint, "--family", "splade")
    (row,) = validated(capsys, folder, *reference).values()
    assert row["fidelity_min"] > 0.99999
    assert row["batch_mates"] == 1.0
    assert row["largest_difference"] < 1e-4


def test_a_graph_without_a_mask_is_measured_on_batches_without_padding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    graph = without_mask(optimum_export() / "model.onnx", tmp_path / "bge.onnx")
    (row,) = validated(capsys, graph.parent, "--reference", workshop() / "found" / "bert").values()
    assert row["fidelity_min"] > 0.99999
    assert row["batch_mates"] is None


def test_a_missed_min_fidelity_prints_the_report_and_ends_with_exit_code_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    done = run(
        capsys, "validate", folder_of_ours(), "--reference", source(), "--texts", texts(),
        "--min_fidelity", "0.99999", "--html", page,
    )  # fmt: skip
    assert done.code == 3
    assert "alone/batch" in done.stdout
    error = done.stderr.splitlines()[-1]
    assert "onnx/model_quantized.onnx has 0.9" in error
    assert "onnx/model.onnx" not in error
    assert "<svg" in page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def refused(capture: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    done: Ended = run(capture, "validate", *argv)
    return error_of(done)


def test_a_reference_of_another_kind_or_width_is_refused_by_the_graph_s_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = workshop() / "found"
    optimum_export()
    error = refused(capsys, anserini_graph().parent, "--texts", texts(), "--reference", source())
    assert "splade.onnx: none of its outputs (output_idx, output_weights)" in error
    error = refused(capsys, pylate_export(), "--texts", texts(), "--reference", found / "bert")
    assert "model.onnx: its last_hidden_state has the shape" in error
    assert "--reference" in error


def test_what_cannot_be_validated_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    graph = Path(shutil.copy(anserini_graph(), tmp_path))
    assert "no conversion.json" in refused(capsys, tmp_path)
    assert "--html" in refused(capsys, tmp_path, "--html", graph)
    assert "--min_fidelity" in refused(capsys, tmp_path, "--min_fidelity", "99")
    assert "--revision" in refused(capsys, tmp_path, "--revision", "main")
    assert "is no folder" in refused(capsys, graph, "--reference", source())
    graph.unlink()
    assert "holds no .onnx file" in refused(capsys, tmp_path, "--reference", source())


def test_a_folder_that_was_not_validated_has_no_page_and_says_so() -> None:
    folder = folder_of_ours()
    assert not (folder / "report.html").exists()
    assert json.loads((folder / "conversion.json").read_text(encoding="utf-8"))["report"] is None
