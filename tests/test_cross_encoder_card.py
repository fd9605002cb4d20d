"""README.md of converted rerankers and classifiers: its code runs, for those who can run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cards import card_of, code_in, front_matter_of
from converted import Converted, converted, workshop
from cross_encoder_checkpoints import (
    INFERENCE,
    SENTIMENT,
    build_classifier,
    classifier,
    reranker,
)

EVERYWHERE = {"sentence-transformers", "Optimum", "Retort's runtime"}


def pairs() -> Converted:
    """Return a classifier of pairs, as sentence-transformers marks it."""
    said = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}
    folder = workshop() / "classifier-of-pairs"
    return converted(build_classifier(folder, "bert", ("no", "yes"), config=said), optimize=0)


@pytest.mark.parametrize(
    ("made", "task", "tags", "consumers"),
    [
        (
            lambda: reranker("bert"),
            "text-ranking",
            ["sentence-transformers", "cross-encoder", "reranker"],
            EVERYWHERE | {"fastembed"},
        ),
        (pairs, "text-classification", ["sentence-transformers", "cross-encoder"], EVERYWHERE),
        (
            lambda: classifier("deberta-v2", INFERENCE),
            "zero-shot-classification",
            ["natural-language-inference"],
            EVERYWHERE,
        ),
        (
            lambda: classifier("bert", SENTIMENT),
            "text-classification",
            [],
            EVERYWHERE - {"sentence-transformers"},
        ),
    ],
)
def test_the_code_of_a_card_runs_as_it_stands(
    made: Callable[[], Converted],
    task: str,
    tags: Sequence[str],
    consumers: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = made()
    card = card_of(result)
    told = front_matter_of(card)
    assert (told["pipeline_tag"], told["tags"][2:]) == (task, tags)
    programs = code_in(card)
    assert {heading.partition(",")[0] for heading in programs} == consumers
    for heading, program in programs.items():
        namespace: dict[str, Any] = {}
        exec(program.replace("path/to/this-folder", str(result.folder)), namespace)
        assert capsys.readouterr().out.strip(), heading


def test_transformers_js_is_told_of_where_it_loads_such_a_head() -> None:
    card = card_of(reranker("bert"))
    assert "### transformers.js" in card
    assert front_matter_of(card)["library_name"] == "transformers.js"
    assert "transformers.js" not in card_of(reranker("qwen3"))
