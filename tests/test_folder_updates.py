"""What a finished folder tells of itself once a graph was added to it or replaced in it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from converted import workshop
from graph_commands import run
from tiny_checkpoints import build_sentence_transformer

import convert
from retort.arguments import ConversionArguments
from retort.card.card_update import updated_card
from retort.report import ValidationReport
from retort.report_json import report_from_json

Capture = pytest.CaptureFixture[str]
PORTABLE, EIGHT_BITS = "onnx/model.onnx", "onnx/model_quantized.onnx"
SECOND_NAME = "onnx/model_int8.onnx"  # a hard link to the latter
SPEED = re.compile(r"\| \d+\.\d\d \|$", re.MULTILINE)


@cache
def validated() -> Path:
    """Return a folder with two measured files."""
    arguments = ConversionArguments(
        model_id=str(build_sentence_transformer(workshop() / "told" / "checkpoint", "bert")),
        output_dir=str(workshop() / "told" / "model"),
        optimize=0,
        quantize=["QInt8"],
        recipe="plain",
        quiet=True,
    )
    return convert.convert(arguments).plan.target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(validated(), tmp_path / "model")


def record(folder: Path) -> Mapping[str, Any]:
    return json.loads((folder / "conversion.json").read_text(encoding="utf-8"))


def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def measured_rows(text: str) -> list[str]:
    """Return the names in the table of figures of a card."""
    return re.findall(r"^\| `(.+?)` \|", text.split("## Measured")[1], re.MULTILINE)


def merged_in_place(capsys: Capture, graph: Path) -> None:
    assert run(capsys, "merge", graph, "--output", graph, "--force").code == 0


def test_a_graph_that_is_added_is_named_as_not_measured(folder: Path, capsys: Capture) -> None:
    before = card(folder)
    assert measured_rows(before) == [PORTABLE, EIGHT_BITS]
    done = run(capsys, "quantize", folder / PORTABLE, "--dtype", "Float16")
    assert done.code == 0, done
    size = (folder / "onnx" / "model_fp16.onnx").stat().st_size / 1e6
    assert f"| `onnx/model_fp16.onnx` | Float16 | {size:.1f} |" in card(folder)
    told = "Made after the conversion, and not measured: "
    assert f"{told}`onnx/model_fp16.onnx`." in card(folder)
    assert f"{told}onnx/model_fp16.onnx." in page(folder)
    assert measured_rows(card(folder)) == measured_rows(before)
    assert card(folder).split("## Use")[1] == before.split("## Use")[1]


def test_figures_go_with_the_bytes_that_they_are_of(folder: Path, capsys: Capture) -> None:
    assert page(folder).count("model_quantized") > 1
    words = ("--target", "avx2", "--output", folder / EIGHT_BITS, "--force")
    assert run(capsys, "quantize", folder / PORTABLE, *words).code == 0
    assert measured_rows(card(folder)) == [PORTABLE, SECOND_NAME]
    assert f"not measured: `{EIGHT_BITS}`" in card(folder)
    assert f"not measured: {EIGHT_BITS}." in page(folder)
    assert page(folder).count("model_quantized") == 1


def test_no_speed_is_told_against_a_graph_that_is_replaced(folder: Path, capsys: Capture) -> None:
    assert SPEED.search(card(folder))
    assert (
        run(capsys, "merge", folder / PORTABLE, "--output", folder / PORTABLE, "--force").code == 0
    )
    assert measured_rows(card(folder)) == [EIGHT_BITS], "what was replaced has no figures"
    assert not SPEED.search(card(folder))
    assert page(folder).count("Size, fidelity and speed") == 0


def test_where_no_measured_graph_is_left_the_page_goes(folder: Path, capsys: Capture) -> None:
    for name in (PORTABLE, EIGHT_BITS, SECOND_NAME):
        merged_in_place(capsys, folder / name)
    assert "was not validated" in card(folder)
    assert not (folder / "report.html").exists()
    assert (record(folder)["validation"], record(folder)["report"]) == (None, None)


def test_a_card_of_the_user_s_own_stays_and_is_told(folder: Path, capsys: Capture) -> None:
    (folder / "README.md").write_text("# mine\n", encoding="utf-8")
    done = run(capsys, "quantize", folder / PORTABLE, "--dtype", "Float16")
    assert done.code == 0
    assert card(folder) == "# mine\n"
    assert "README.md does not tell of onnx/model_fp16.onnx" in done.stderr


def test_of_a_model_of_the_hub_the_card_says_when_it_is_quantized(folder: Path) -> None:
    told = dict(record(folder))
    told["source"] = {"model_id": "org/model", "commit": "0" * 40, "from_hub": True}
    text = card(folder).replace("---\n", "---\nbase_model: org/model\n", 1)
    quantized = updated_card(text, told)
    assert quantized == text.replace(
        "base_model: org/model\n", "base_model: org/model\nbase_model_relation: quantized\n"
    )
    told["files"] = {PORTABLE: told["files"][PORTABLE]}
    portable = updated_card(quantized, told)
    assert portable is not None
    assert "base_model_relation" not in portable


def test_a_report_that_is_read_again_says_the_same(folder: Path) -> None:
    told = record(folder)["validation"]
    report = report_from_json(told)
    assert isinstance(report, ValidationReport)
    assert report.as_json() == told


def test_a_card_of_a_folder_that_did_not_change_is_the_same_to_the_letter(folder: Path) -> None:
    assert updated_card(card(folder), record(folder)) == card(folder)
