"""Validate sees a damaged graph, a wrong mask and a frozen branch, and refuses the folder."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import convert_here
from converted import workshop
from onnx import numpy_helper
from optimum.onnxruntime import OptimizationConfig, ORTOptimizer
from staged import ARGUMENTS, checkpoint, optimized, portable
from tiny_checkpoints import build_encoder
from tiny_variants import REMOTE_MODULE, with_remote_code
from transformers import AutoConfig

from onnx_configs import families
from retort.artifact import Artifact
from retort.errors import ConversionError, FidelityError
from retort.graphs.timing import SHAPES
from retort.report import FileReport, ValidationReport
from retort.stages.validate import check_load, load_reference, require_agreement, validate
from retort.talk import third_party_quiet
from retort.texts import validation_texts

FP32_TOLERANCE = 1e-4
# One matrix of weights five percent too large: what a wrong scale in a file would do.
DAMAGE = 1.05
BATCH_OF_ONE = '''
    def forward(self, input_ids, attention_mask, token_type_ids, return_dict=True):
        """Answer otherwise for a batch of one, which tracing cannot see."""
        output = super().forward(input_ids, attention_mask, token_type_ids)
        if input_ids.shape[0] == 1:
            output.last_hidden_state = -output.last_hidden_state
        return output
'''


def damaged() -> Artifact:
    """Return a copy of the portable graph with one weight matrix a little too large."""
    model = onnx.load(portable().path)
    tensor = max(
        (i for i in model.graph.initializer if i.name.startswith("onnx::MatMul")),
        key=lambda i: int(np.prod(i.dims)),
    )
    values = numpy_helper.to_array(tensor) * np.float32(DAMAGE)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = workshop() / "validate" / "damaged.onnx"
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    return Artifact(path, "embedding")


def fused_with_lengths() -> Artifact:
    """Return the graph as Optimum fuses it by default: the mask becomes right-padded lengths."""
    folder = workshop() / "validate" / "lengths"
    settings = OptimizationConfig(optimization_level=1, use_raw_attention_mask=False)
    with third_party_quiet():
        optimizer = ORTOptimizer([portable().path], AutoConfig.from_pretrained(checkpoint().folder))
        optimizer.optimize(settings, save_dir=folder, file_suffix="")
    return Artifact(folder / "model.onnx", "embedding")


@cache
def report() -> ValidationReport:
    """Return the report on two sound files and two that are not."""
    family = families()["embedding"]
    files = {
        "portable": portable(),
        "optimized": optimized(),
        "damaged": damaged(),
        "lengths": fused_with_lengths(),
    }
    reference = load_reference(family, checkpoint(), ARGUMENTS)
    return validate(files, family, reference, vocabulary=1000, progress=False)


def row(file: str) -> FileReport:
    return next(row for row in report().files if row.file == file)


def with_files(*names: str) -> ValidationReport:
    whole = report()
    return ValidationReport(
        whole.reference,
        whole.fidelity_unit,
        whole.texts,
        whole.speed_shapes,
        tuple(row(name) for name in names),
    )


def test_the_report_has_a_row_for_every_file_in_order_and_counts_the_shipped_texts() -> None:
    assert [row.file for row in report().files] == ["portable", "optimized", "damaged", "lengths"]
    assert report().texts == len(validation_texts())
    assert len(report().speed_shapes) == len(SHAPES)
    for row in report().files:
        assert len(row.speed) == len(SHAPES)
        assert min(row.speed) > 0
    assert report().files[0].speed == (1.0,) * len(SHAPES)


def test_sound_fp32_files_pass() -> None:
    for name in ("portable", "optimized"):
        assert 0 < row(name).largest_difference < FP32_TOLERANCE / 10
        assert row(name).fidelity_min > 0.999999
    require_agreement(with_files("portable", "optimized"))


def test_a_damaged_fp32_file_is_shown_and_refused_by_its_name() -> None:
    assert row("damaged").largest_difference > FP32_TOLERANCE
    assert row("damaged").fidelity_min < row("portable").fidelity_min
    with pytest.raises(FidelityError, match=r"^damaged: differs from sentence-transformers 5"):
        require_agreement(with_files("portable", "damaged"))


def test_a_graph_that_assumes_right_padding_is_refused_for_its_left_padding() -> None:
    assert row("lengths").worst_case == "batch 8, left padding"
    assert row("lengths").fidelity_min < 0.9
    with pytest.raises(FidelityError, match=r"^lengths: .*left padding"):
        require_agreement(with_files("portable", "lengths"))


def test_a_quantized_file_may_differ() -> None:
    whole = with_files("damaged")
    changed = FileReport(**{**whole.files[0].__dict__, "precision": "QInt8"})
    require_agreement(ValidationReport(whole.reference, whole.fidelity_unit, 1, (), (changed,)))


def test_a_difference_that_is_no_number_is_refused() -> None:
    whole = with_files("portable")
    changed = FileReport(**{**whole.files[0].__dict__, "largest_difference": float("nan")})
    with pytest.raises(FidelityError, match="portable"):
        require_agreement(ValidationReport(whole.reference, whole.fidelity_unit, 1, (), (changed,)))


def test_the_table_tells_what_the_rows_hold() -> None:
    lines = report().table().splitlines()
    assert report().reference in lines[0]
    assert len(lines) == 2 + len(report().files)
    for line, found in zip(lines[2:], report().files, strict=True):
        assert line.startswith(found.file)
        assert f"{found.fidelity_min:.4f}" in line
    assert "Attention×2 BiasGelu×2 SkipLayerNormalization×4" in lines[3]


def test_a_file_that_does_not_load_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(portable().path.read_bytes()[:5000])
    check_load({"whole": portable()})
    with pytest.raises(ConversionError, match=r"loading onnx/broken\.onnx failed"):
        check_load({"onnx/broken.onnx": Artifact(broken, "embedding")})


def test_a_branch_that_tracing_froze_ends_with_exit_code_3_and_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = with_remote_code(build_encoder(tmp_path / "frozen", "bert"))
    with (source / f"{REMOTE_MODULE}.py").open("a", encoding="utf-8") as code:
        code.write(BATCH_OF_ONE)
    models = tmp_path / "models"
    ended = convert_here(
        capsys,
        *("--model_id", source, "--output_parent_dir", models),
        *("--trust_remote_code", "--pooling", "mean", "--optimize", "0"),
    )
    assert ended.code == 3
    last = ended.stderr.splitlines()[-1]
    assert re.match(r"error: onnx/model\.onnx: differs from sentence-transformers .*batch 1", last)
    assert not [path for path in models.rglob("*") if path.suffix in {".onnx", ".json"}]


def test_the_report_is_plain_json() -> None:
    told = report().as_json()
    assert json.loads(json.dumps(told))["files"][2]["file"] == "damaged"
