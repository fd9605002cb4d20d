"""The ladder of 8-bit recipes: the first that keeps the promise, on texts that are held out."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_checkpoints import build_sentence_transformer

import convert
from retort.arguments import ConversionArguments
from retort.errors import FidelityError, InputError
from retort.recipes.recipe import LADDERS, RECIPES
from retort.recipes.trials import trial_texts
from retort.report import Ladder

PROMISED = 0.998


def with_outliers(folder: Path) -> Path:
    """Return a tiny BERT whose layers make one channel far larger than the others."""
    build_sentence_transformer(folder, "bert")
    file = next(folder.rglob("model.safetensors"))
    weights = load_file(file)
    for name in weights:
        if name.endswith("LayerNorm.weight"):
            weights[name][5] *= 6
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def ladder_of(tmp_path: Path, min_fidelity: float) -> Ladder:
    arguments = ConversionArguments(
        model_id=str(with_outliers(tmp_path / "checkpoint")),
        output_dir=str(tmp_path / "out"),
        quantize=["QInt8"],
        optimize=0,
        min_fidelity=min_fidelity,
        calibration_samples=64,
        quiet=True,
    )
    report = convert.convert(arguments).report
    assert report is not None
    (ladder,) = report.ladders
    return ladder


def test_auto_keeps_the_first_recipe_that_has_the_fidelity_asked_for(tmp_path: Path) -> None:
    ladder = ladder_of(tmp_path, PROMISED)
    assert [rung.recipe for rung in ladder.rungs] == [
        recipe.name for recipe in LADDERS["auto"][: len(ladder.rungs)]
    ]
    assert len(ladder.rungs) > 1
    assert [rung.passed for rung in ladder.rungs] == [False] * (len(ladder.rungs) - 1) + [True]
    assert ladder.rungs[-1].fidelity_mean >= PROMISED
    assert ladder.rungs[-1].batch_mates >= PROMISED


def test_where_no_recipe_passes_the_ladder_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(FidelityError, match=r"no recipe reaches 1; .*--min_fidelity") as caught:
        ladder_of(tmp_path, 1.0)
    assert all(recipe.name in str(caught.value) for recipe in RECIPES)
    assert not (tmp_path / "out").exists()


def test_own_texts_are_calibrated_with_and_every_fifth_is_kept_to_measure_on(
    tmp_path: Path,
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(f"text {number}" for number in range(20)), encoding="utf-8")
    calibration, held_out = trial_texts(str(file), "text", 100)
    assert held_out == ("text 0", "text 5", "text 10", "text 15")
    assert len(calibration) == 16
    assert not set(calibration) & set(held_out)
    assert len(trial_texts(str(file), "text", 3)[0]) == 3
    with pytest.raises(InputError, match="absent"):
        trial_texts(str(tmp_path / "absent.txt"), "text", 3)


def test_the_texts_that_ship_are_calibrated_with_and_others_measured_on() -> None:
    calibration, held_out = trial_texts(None, "text", 1000)
    assert len(calibration) > 200
    assert not set(calibration) & set(held_out)
