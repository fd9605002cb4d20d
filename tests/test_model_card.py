"""README.md of a converted folder: what it tells, and that its code runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cards import (
    COMMIT,
    FROM_HUB,
    backbone,
    card_of,
    code_in,
    colbert,
    front_matter_of,
    in_the_root,
    rewritten,
)
from colbert_checkpoints import build_colbert
from converted import Conversion, converted, external_data, named_by_level, projected, tagger

from retort.card.model_card import for_repository

for_each = pytest.mark.parametrize


@for_each(
    "conversion",
    [projected, external_data, tagger, named_by_level, colbert, backbone, in_the_root],
)
def test_a_card_names_every_graph_with_its_precision_size_and_opset(
    conversion: Conversion,
) -> None:
    card, record = card_of(conversion()), conversion().json("conversion.json")
    assert front_matter_of(card)["tags"][:2] == ["onnx", "retort"]
    for name, told in record["files"].items():
        size = told["steps"][-1]["bytes"] / 1e6
        assert f"| `{name}` | {told['precision']} | {size:.1f} | {told['opset']} |" in card
    for name, file in record["links"].items():
        assert f"`{name}` is `{file}`" in card
    assert "This conversion was not validated" in card


@for_each(
    ("conversion", "consumers"),
    [
        (projected, {"sentence-transformers", "Optimum", "fastembed", "Retort's runtime"}),
        (external_data, {"sentence-transformers", "Optimum", "fastembed", "Retort's runtime"}),
        (backbone, {"Optimum", "Retort's runtime"}),
        (tagger, {"Optimum", "Retort's runtime"}),
        (named_by_level, {"Optimum", "Retort's runtime"}),
        (in_the_root, {"Optimum", "Retort's runtime"}),
        (colbert, {"Retort's runtime", "PyLate's ranking", "fastembed"}),
    ],
)
def test_the_python_code_of_a_card_runs_as_it_stands(
    conversion: Conversion, consumers: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    programs = code_in(card_of(conversion()))
    assert {heading.partition(",")[0] for heading in programs} == consumers
    for heading, program in programs.items():
        namespace: dict[str, Any] = {}
        exec(program.replace("path/to/this-folder", str(conversion().folder)), namespace)
        assert capsys.readouterr().out.strip(), heading
        if heading == "sentence-transformers":
            # It exports anew, without a word, where it finds no file of that name.
            graph = Path(namespace["model"][0].auto_model.path)
            assert graph.is_relative_to(conversion().folder)


def test_the_code_loads_the_8_bit_graph_where_there_is_one() -> None:
    assert 'load("path/to/this-folder", "onnx/model_quantized.onnx")' in card_of(tagger())
    assert 'file_name="model_opt2_QInt8.onnx"' in card_of(named_by_level())
    assert 'load("path/to/this-folder", "onnx/model.onnx")' in card_of(backbone())
    assert '{ dtype: "q8" }' in card_of(tagger())
    assert '{ dtype: "fp32" }' in card_of(named_by_level())


def test_a_colbert_of_other_settings_is_not_shown_to_fastembed(tmp_path: Path) -> None:
    checkpoint = build_colbert(tmp_path / "other", "bert", query_length=32)
    card = card_of(converted(checkpoint, optimize=0, layout="onnx"))
    assert "fastembed" not in card
    assert "next-plaid" not in card, "it reads graphs in the root"


def test_the_prompts_of_the_checkpoint_are_told_to_those_who_must_add_them() -> None:
    programs = code_in(card_of(projected()))
    assert "model.encode_query(" in programs["sentence-transformers"]
    note = 'Put the model\'s prompts before the texts: "what is " for query.'
    assert card_of(projected()).count(note) == 2, "transformers.js and fastembed"


@for_each(
    ("sample", "code"),
    [
        ('\n  Zu "Goa"  \nMehr\n', 'model.extract("Zu \\"Goa\\"")'),
        ("", 'model.extract("Marie Curie lived in Paris.")'),
    ],
)
def test_the_sample_text_of_a_checkpoint_is_the_one_in_the_code(
    sample: str, code: str, tmp_path: Path
) -> None:
    assert code in rewritten(tmp_path, sample=sample)


def test_what_was_measured_stands_there_figure_by_figure(tmp_path: Path) -> None:
    row = {"fidelity_mean": 0.99694, "fidelity_min": 0.9444, "batch_mates": 0.98765}
    validation = {
        "reference": "transformers 4.57.6",
        "fidelity_unit": "share of tokens with the same tag",
        "texts": 173,
        "speed_shapes": ["1×32"],
        "files": [
            {"file": "onnx/model.onnx", "largest_difference": 0.036, **row, "speed": [1.534]}
        ],
        "ladders": [
            {
                "precision": "QInt8",
                "min_fidelity": 0.99,
                "rungs": [
                    {"recipe": "plain", "bytes": 10**6, "passed": False, "note": "", **row}
                    | {"speed": [2.0]},
                    {"recipe": "static", "bytes": 2 * 10**6, "passed": True, "note": "kept", **row}
                    | {"speed": []},
                ],
            }
        ],
    }
    card = rewritten(tmp_path, validation=validation, report="report.html")
    assert "| file | mean | minimum | largest difference | alone/batch | speed 1×32 |" in card
    assert "| `onnx/model.onnx` | 0.9969 | 0.9444 | 3.6e-02 | 0.9877 | 1.53 |" in card
    assert "| plain | failed | 1.0 | 0.9969 | 0.9444 | 0.9877 | 2.00 |  |" in card
    assert "| static | passed | 2.0 | 0.9969 | 0.9444 | 0.9877 | – | kept |" in card
    assert "[report.html](report.html)" in card
    assert "share of tokens with the same tag with transformers 4.57.6" in card
    assert "over 173 texts" in card
    assert "not validated" not in card


def test_the_command_that_made_the_folder_is_told_with_the_exact_source(
    tmp_path: Path,
) -> None:
    arguments = tagger().json("conversion.json")["arguments"]
    changed = {**arguments, "per_channel": False, "reduce_range": True, "revision": "main"}
    card = rewritten(
        tmp_path, source=FROM_HUB, arguments={**changed, "verify": True, "verify_text": ["mine"]}
    )
    (command,) = re.findall(r"```bash\n(.*)\n```", card)
    assert command == (
        f"python convert.py --model_id org/model --revision {COMMIT} --quantize QInt8,Float16 "
        "--no_per_channel --reduce_range --recipe plain --skip_validation"
    )
    assert "mine" not in card
    versions = tagger().json("conversion.json")["versions"]
    assert all(f"{name} {version}" in card for name, version in versions.items())


def test_a_card_for_a_repository_differs_in_its_name_alone() -> None:
    card = card_of(tagger())
    uploaded = for_repository(card, "org/new")
    assert "path/to/this-folder" not in uploaded
    assert 'load("org/new", "onnx/model_quantized.onnx")' in uploaded
    assert "`hf download org/new --local-dir org/new`" in uploaded
    pairs = zip(card.splitlines(), uploaded.splitlines(), strict=True)
    assert all("path/to/this-folder" in line for line, new in pairs if line != new)
    assert json.dumps(front_matter_of(card)) == json.dumps(front_matter_of(uploaded))
