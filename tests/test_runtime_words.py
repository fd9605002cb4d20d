"""How pieces become words, words get tags, and tags become entities."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from runtime_folders import (
    BIO,
    copy_tokenizer,
    named,
    opened_classifier,
    save_with_template,
    token_classifier_folder,
    write_byte_tokenizer,
)
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import Unigram

from retort.errors import InputError
from retort.runtime.spans import TaggedWord, TagScheme
from retort.runtime.windows import merge_windows


def test_aggregations_weigh_the_pieces_of_a_word_differently(tmp_path: Path) -> None:
    copy_tokenizer(tmp_path, max_length=512)
    # Pieces of Coimbatore: co ##im ##bat ##ore.
    tags = {
        "co": {"B-SRC": 2.0, "B-DST": 1.0},
        "##im": {"B-DST": 2.5},
        "##bat": {"B-DST": 2.5},
        "##ore": {"B-BUS": 5.0},
    }
    model = opened_classifier(token_classifier_folder(tmp_path, BIO, tags))
    labels = {
        name: model.entities("Coimbatore", aggregation=name) for name in ("first", "average", "max")
    }
    assert {name: found[0].label for name, found in labels.items()} == {
        "first": "SRC",
        "average": "DST",
        "max": "BUS",
    }
    assert labels["first"][0].score == pytest.approx(np.exp(2) / (np.exp(2) + np.e + 5))
    with pytest.raises(InputError, match="no aggregation 'last': choose from first, average, max"):
        model.entities("Coimbatore", aggregation="last")


def decoded(labels: str, tags: str) -> list[tuple[str, str]]:
    """Return the entities of one-letter words that have these tags."""
    names = tags.split()
    text = "abcdefghij"[: len(names)]
    words = [TaggedWord(index, index + 1, tag, 1.0) for index, tag in enumerate(names)]
    return named(TagScheme(labels.split()).entities(text, words))


@pytest.mark.parametrize(
    ("labels", "tags", "entities"),
    [
        ("O B-X I-X B-Y I-Y", "B-X I-X O B-X B-X I-X B-Y", "X:ab X:d X:ef Y:g"),
        ("O B-X I-X B-Y I-Y", "I-X I-X I-Y O I-Y", "X:ab Y:c Y:e"),
        ("O I-X I-Y", "I-X I-X O I-Y", "X:ab Y:d"),
        ("O B-X B-Y", "B-X B-X B-Y", "X:a X:b Y:c"),
        ("O B-X I-X E-X S-X", "B-X I-X E-X S-X S-X I-X E-X E-X", "X:abc X:d X:e X:fg X:h"),
        ("O B-X I-X L-X U-X", "U-X B-X L-X L-X O U-X", "X:a X:bc X:d X:f"),
        ("O B-X M-X E-X S-X", "B-X M-X E-X B-X M-X", "X:abc X:de"),
        ("O B_X I_X", "B_X I_X B_X", "X:ab X:c"),
        ("O B-X-1 I-X-1 MISC", "B-X-1 I-X-1 MISC", "X-1:ab MISC:c"),
        ("O SRC DST", "SRC SRC DST O DST", "SRC:ab DST:c DST:e"),
        ("O S-bahn E-mail", "S-bahn S-bahn E-mail", "S-bahn:ab E-mail:c"),
    ],
)
def test_tags_of_every_scheme_become_entities(labels: str, tags: str, entities: str) -> None:
    expected = [tuple(entity.split(":")) for entity in entities.split()]
    assert decoded(labels, tags) == expected


def test_tags_without_prefix_join_neighbouring_words(tmp_path: Path) -> None:
    copy_tokenizer(tmp_path, max_length=512)
    tags = {"new": "DST", "delhi": "DST", "bangalore": "SRC"}
    model = opened_classifier(token_classifier_folder(tmp_path, ("O", "SRC", "DST"), tags))
    assert named(model.entities("Bangalore New Delhi to Delhi")) == [
        ("SRC", "Bangalore"),
        ("DST", "New Delhi"),
        ("DST", "Delhi"),
    ]


def test_pieces_that_are_not_split_at_punctuation_give_the_same_words(tmp_path: Path) -> None:
    # As XLM-R: the comma and the Chinese characters are in one run with what is before them.
    names = [
        "<s>",
        "</s>",
        "<unk>",
        "▁",
        "▁Bangalore",
        ",",
        "▁to",
        "我",
        "北京",
        "上",
        "海",
        "▁(",
        "Non",
        "-",
        "AC",
        ")",
    ]
    tokenizer = Tokenizer(Unigram([(name, -1.0) for name in names], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    save_with_template(tokenizer, tmp_path)
    tags = {"▁Bangalore": "B-SRC", "北京": "B-DST", "上": "B-DST", "海": "I-DST", "Non": "B-BUS"}
    model = opened_classifier(token_classifier_folder(tmp_path, BIO, tags))
    assert model.tags("Bangalore, to 我北京上海 (Non-AC)") == [
        ("Bangalore", "B-SRC"),
        (",", "O"),
        ("to", "O"),
        ("我", "O"),
        ("北京", "B-DST"),  # one piece, so one word
        ("上", "B-DST"),
        ("海", "I-DST"),
        ("(", "O"),
        ("Non-AC", "B-BUS"),
        (")", "O"),
    ]
    assert named(model.entities("我北京上海")) == [("DST", "北京"), ("DST", "上海")]


def test_pieces_smaller_than_a_character_give_whole_characters(tmp_path: Path) -> None:
    tokenizer = write_byte_tokenizer(tmp_path)
    first_byte = {character: piece_of(tokenizer, character) for character in "Z🚌北"}
    tags = {first_byte["Z"]: "B-SRC", first_byte["🚌"]: "B-BUS", first_byte["北"]: "B-DST"}
    model = opened_classifier(token_classifier_folder(tmp_path, BIO, tags))
    # RoBERTa's words start with the piece of the space, so these are at the start of a text.
    assert named(model.entities("Zürich")) == [("SRC", "Zürich")]
    assert named(model.entities("🚌🚌")) == [("BUS", "🚌🚌")]
    assert named(model.entities("北京")) == [("DST", "北")]


def piece_of(tokenizer: Tokenizer, text: str) -> str:
    return str(tokenizer.encode(text, add_special_tokens=False).tokens[0])


def test_long_texts_are_read_in_windows_that_cut_and_double_nothing(tmp_path: Path) -> None:
    copy_tokenizer(tmp_path, max_length=22)
    tags = {"new": "B-DST", "delhi": "I-DST"}
    # 20 pieces of text in a window, 5 of them repeated: two next to each edge are never believed.
    folder = token_classifier_folder(tmp_path, (*BIO, "B-WRONG"), tags, blind=3)
    model = opened_classifier(folder)
    for length in (*range(14, 60), 200):
        words = list(itertools.islice(itertools.cycle(["to", "new", "delhi"]), length))
        body = ["x"] * 3 + words + ["x"] * 3
        inner = [tag for _, tag in model.tags(body)][3:-3]
        expected = {"to": "O", "new": "B-DST", "delhi": "I-DST"}
        assert inner == [expected[word] for word in words], length


def test_each_token_is_taken_from_the_window_in_which_it_is_farthest_from_an_edge() -> None:
    windows = [np.full((6, 1), index, dtype=np.float32) for index in range(3)]
    merged = merge_windows([*windows, np.full((3, 1), 3, dtype=np.float32)], step=4)
    # Windows start at 0, 4, 8 and 12, and the text has 15 tokens.
    assert merged[:, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
