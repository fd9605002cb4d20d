"""Queries that no graph encodes: the table of an inference-free checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from runtime_folders import merge_json, write_json
from sparse_folders import converted_pair, hand_made, opened
from sparse_pairs import TEXTS, assert_same, logits_pair
from splade_checkpoints import build_inference_free

from retort.errors import InputError
from retort.runtime import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of one's own, whose graph gives the logits by hand."""
    return hand_made(tmp_path / "model", ["logits"])


def test_queries_of_a_table_have_each_token_once_and_no_special_ones(folder: Path) -> None:
    weights = {"red": 2.0, "fox": 4.0, "##es": 0.5, "[SEP]": 7.0}
    write_json(folder / "query_weights.json", {"weights": weights})
    model = opened(folder)
    assert model.encode_queries("red red foxes Red") == {"fox": 4.0, "red": 2.0, "##es": 0.5}
    assert model.encode_queries(["", "dog"]) == [{}, {}]
    assert model.encode_queries("dog " * 20 + "red") == {"red": 2.0}
    assert model.encode_queries("red [SEP]") == {"[SEP]": 7.0, "red": 2.0}
    assert "blue" in model.encode_documents("red")


def test_queries_of_a_table_are_cut_at_their_own_length(tmp_path: Path) -> None:
    checkpoint = build_inference_free(tmp_path / "checkpoint")
    for part in checkpoint.glob("query_0_*"):
        merge_json(part / "tokenizer_config.json", {"model_max_length": 5})
    both = converted_pair(checkpoint)
    assert both.ours.max_length == 48
    queries = both.ours.encode_arrays(TEXTS, side="query")
    assert max(map(len, queries)) == 5
    assert_same(queries, both.theirs.encode_query(TEXTS))


def test_a_text_of_neither_side_goes_where_the_router_sends_it(tmp_path: Path) -> None:
    checkpoint = build_inference_free(tmp_path / "checkpoint")
    router = json.loads((checkpoint / "router_config.json").read_text(encoding="utf-8"))
    router["parameters"]["default_route"] = "query"
    write_json(checkpoint / "router_config.json", router)
    both = converted_pair(checkpoint)
    assert_same(both.ours.encode_arrays(TEXTS), both.theirs.encode(TEXTS))
    assert_same(both.ours.encode_arrays(TEXTS, side="document"), both.theirs.encode_document(TEXTS))


def test_a_router_without_its_table_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(logits_pair("inference-free").folder, folder)
    (folder / "query_weights.json").unlink()
    with pytest.raises(InputError, match=r"query_weights\.json is missing: convert the checkpoint"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no weights by token"),
        ({"weights": [1.0]}, "holds no weights by token"),
        ({"weights": {"cat": 1.0}}, "weighs 'cat', which is no token"),
        ({"weights": {}, "max_length": "5"}, "max_length is '5'"),
        ({"weights": {}, "max_length": 0}, "max_length is 0"),
        ({"weights": {"red": "much"}}, "the weight of 'red' is no number"),
        ({"weights": {"red": None}}, "the weight of 'red' is no number"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(
    content: dict[str, object], said: str, folder: Path
) -> None:
    write_json(folder / "query_weights.json", content)
    with pytest.raises(InputError, match=said):
        load(folder)
