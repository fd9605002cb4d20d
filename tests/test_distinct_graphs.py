"""The graphs of any folder, each once and the portable one first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from converted import colbert
from found_graphs import optimum_export
from graph_commands import folder_of_ours

from retort.folder_graphs import folder_graphs


def test_links_and_copies_of_a_recorded_graph_are_left_out(tmp_path: Path) -> None:
    for conversion in (folder_of_ours(), colbert().folder):
        record = json.loads((conversion / "conversion.json").read_text(encoding="utf-8"))
        assert record["links"]
        assert [graph.name for graph in folder_graphs(conversion)] == list(record["files"])
        # Through the Hub, hard links become files of their own.
        copy = Path(shutil.copytree(conversion, tmp_path / conversion.name))
        assert [graph.name for graph in folder_graphs(copy)] == list(record["files"])


def test_in_another_tool_s_folder_the_fp32_graph_comes_first_and_precisions_are_seen(
    tmp_path: Path,
) -> None:
    shutil.copy(folder_of_ours() / "onnx" / "model_quantized.onnx", tmp_path / "a_int8.onnx")
    shutil.copy(optimum_export() / "model.onnx", tmp_path / "b.onnx")
    (tmp_path / "c.onnx").symlink_to(tmp_path / "b.onnx")
    graphs = folder_graphs(tmp_path)
    assert [(g.name, g.precision) for g in graphs] == [
        ("b.onnx", "fp32"),
        ("a_int8.onnx", "8 bits"),
    ]
    assert graphs[0].bytes == (tmp_path / "b.onnx").stat().st_size
