"""A fidelity report as a table and as JSON, with the recipes that were tried."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
from reports import LAYERS, SCORES, ladder, report

from retort.report import quantiles


def test_a_ladder_is_a_table_of_what_was_tried_in_order() -> None:
    title, header, plain, static = ladder().table().splitlines()
    assert title == "QInt8: recipes tried for a fidelity of 0.999"
    assert header.split() == ["recipe", "MB", "mean", "min", "alone/batch", "speed", "speed"]
    assert " ".join(plain.split()) == "plain 22.9 0.9894 0.9669 0.9850 2.30× 2.20× failed"
    assert " ".join(static.split()) == "static 23.8 0.9993 0.9950 1.0000 2.70× 2.60× passed kept"


def test_the_report_s_table_ends_with_its_ladders() -> None:
    shown = report(ladder())
    assert shown.table() == f"{report().table()}\n{ladder().table()}"
    line = report().table().splitlines()[2]
    assert line.split()[-3:] == ["1.0000", "1.00×", "1.00×"]  # alone/batch, and the speeds


def test_the_json_keeps_percentiles_of_many_scores_and_all_of_few() -> None:
    told = json.loads(json.dumps(report(ladder(LAYERS)).as_json(), allow_nan=False))
    kept = told["files"][1]["scores"]
    assert len(kept) == 101
    scores = report().files[1].scores
    np.testing.assert_allclose(kept[::50], [min(scores), np.median(scores), max(scores)], atol=1e-6)
    assert quantiles(SCORES[:5]) == sorted(SCORES[:5])
    assert told["ladders"][0]["layers"] == LAYERS
    assert [rung["passed"] for rung in told["ladders"][0]["rungs"]] == [False, True]


def test_what_is_not_measured_or_not_finite_is_null_in_json_and_a_dash_in_the_table() -> None:
    whole = report()
    row = replace(
        whole.files[0],
        largest_difference=math.inf,
        batch_mates=math.nan,
        speed=(math.nan, 1.0),
        scores=(math.nan, 0.5),
    )
    broken = replace(whole, files=(row,))
    told = json.loads(json.dumps(broken.as_json(), allow_nan=False))["files"][0]
    assert (told["largest_difference"], told["batch_mates"]) == (None, None)
    assert (told["speed"], told["scores"]) == ([None, 1.0], [0.5])
    assert broken.table().splitlines()[2].split()[-3:] == ["–", "–", "1.00×"]
