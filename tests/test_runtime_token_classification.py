"""What the token classification runtime promises, on models that give tags of our choice."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_folders import (
    copy_tokenizer,
    export_graph,
    label_config,
    save_with_template,
    token_classifier_folder,
    write_byte_tokenizer,
    write_json,
)
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import Unigram
from torch import nn
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast, pipeline

from retort.errors import InputError
from retort.runtime import Entity, TokenClassificationModel, load
from retort.runtime.spans import TaggedWord, TagScheme
from retort.runtime.windows import merge_windows

BIO = ("O", "B-SRC", "I-SRC", "B-DST", "I-DST", "B-BUS", "I-BUS")
BUS_TAGS = {
    "bangalore": "B-SRC",
    "new": "B-DST",
    "delhi": "I-DST",
    "agra": "B-DST",
    "non": "B-BUS",
    "ac": "B-BUS",
    "co": "B-SRC",  # the first of the four pieces of Coimbatore; the others are outside
    "cafe": "B-SRC",
    "zurich": "I-SRC",
    "北": "B-SRC",
    "京": "I-SRC",
    "上": "B-SRC",
    "海": "I-SRC",
    "[UNK]": "B-BUS",
    "10": "B-BUS",
}


@pytest.fixture(scope="session")
def bus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bus")
    copy_tokenizer(folder, max_length=512)
    return token_classifier_folder(folder, BIO, BUS_TAGS)


@pytest.fixture(scope="session")
def bus(bus_folder: Path) -> TokenClassificationModel:
    return opened(bus_folder)


def opened(folder: Path) -> TokenClassificationModel:
    model = load(folder, threads=2)
    assert isinstance(model, TokenClassificationModel)
    return model


def named(entities: list[Entity]) -> list[tuple[str, str]]:
    return [(entity.label, entity.text) for entity in entities]


def test_entities_have_the_text_and_the_character_offsets_of_the_original(
    bus: TokenClassificationModel,
) -> None:
    text = "  From Bangalore,\tto NEW  Delhi!"
    entities = bus.entities(text)
    assert named(entities) == [("SRC", "Bangalore"), ("DST", "NEW  Delhi")]
    assert [text[entity.start : entity.end] for entity in entities] == ["Bangalore", "NEW  Delhi"]
    probability = np.exp(6) / (np.exp(6) + 6)
    assert [entity.score for entity in entities] == pytest.approx([probability] * 2)


def test_the_tag_of_a_words_first_piece_counts_for_the_word(bus: TokenClassificationModel) -> None:
    assert bus.tags("a bus to Coimbatore") == [
        ("a", "O"),
        ("bus", "O"),
        ("to", "O"),
        ("Coimbatore", "B-SRC"),
    ]
    assert named(bus.entities("Coimbatore")) == [("SRC", "Coimbatore")]


def test_aggregations_weigh_the_pieces_of_a_word_differently(tmp_path: Path) -> None:
    copy_tokenizer(tmp_path, max_length=512)
    # Pieces of Coimbatore: co ##im ##bat ##ore.
    tags = {
        "co": {"B-SRC": 2.0, "B-DST": 1.0},
        "##im": {"B-DST": 2.5},
        "##bat": {"B-DST": 2.5},
        "##ore": {"B-BUS": 5.0},
    }
    model = opened(token_classifier_folder(tmp_path, BIO, tags))
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


def test_a_word_with_a_hyphen_is_one_entity_and_the_mark_after_it_is_not_part(
    bus: TokenClassificationModel,
) -> None:
    assert named(bus.entities("a (Non-AC) bus")) == [("BUS", "Non-AC")]
    assert bus.tags("Non-AC.") == [("Non-AC", "B-BUS"), (".", "O")]
    assert named(bus.entities("at 10:30, 10/12/2026 or 10.")) == [
        ("BUS", "10:30"),
        ("BUS", "10/12/2026"),
        ("BUS", "10"),
    ]


def test_parts_of_a_hyphenated_word_with_labels_of_their_own_stay_apart(
    bus: TokenClassificationModel,
) -> None:
    assert named(bus.entities("Bangalore-Agra")) == [("SRC", "Bangalore"), ("DST", "Agra")]
    assert named(bus.entities("pre-Agra")) == [("DST", "Agra")]


def test_marks_and_emoji_belong_to_words_and_shift_no_offset(bus: TokenClassificationModel) -> None:
    text = "👨‍👩‍👧🏽 in Cafe\u0301 Zu\u0308rich\u200b!"
    assert named(bus.entities(text)) == [
        ("BUS", "👨‍👩‍👧🏽"),
        ("SRC", "Cafe\u0301 Zu\u0308rich"),
    ]


def test_in_chinese_each_character_is_a_word_and_the_tags_make_the_spans(
    bus: TokenClassificationModel,
) -> None:
    assert named(bus.entities("去北京上海")) == [("BUS", "去"), ("SRC", "北京"), ("SRC", "上海")]
    assert named(bus.entities("北京-上海")) == [("SRC", "北京"), ("SRC", "上海")]


def test_words_given_apart_come_back_one_for_one(bus: TokenClassificationModel) -> None:
    words = ["Bangalore,", "to", "", "New", "Delhi", "\x00", "Non-AC", "北京"]
    tags = bus.tags(words)
    assert [word for word, _ in tags] == words
    assert [tag for _, tag in tags] == ["B-SRC", "O", "O", "B-DST", "I-DST", "O", "B-BUS", "B-SRC"]
    entities = bus.entities(words)
    text = " ".join(words)
    assert [text[entity.start : entity.end] for entity in entities] == [
        "Bangalore,",
        "New Delhi",
        "Non-AC",
        "北京",
    ]
    spans = [(entity.start_word, entity.end_word) for entity in entities]
    assert spans == [(0, 1), (3, 5), (6, 7), (7, 8)]


def test_word_positions_of_a_text_are_those_in_its_tags(bus: TokenClassificationModel) -> None:
    text = "From Bangalore, to New Delhi (Non-AC)"
    words = [word for word, _ in bus.tags(text)]
    found = [words[entity.start_word : entity.end_word] for entity in bus.entities(text)]
    assert found == [["Bangalore"], ["New", "Delhi"], ["Non-AC"]]


def test_extract_takes_the_surest_entity_of_each_label(tmp_path: Path) -> None:
    copy_tokenizer(tmp_path, max_length=512)
    tags = {"agra": {"B-DST": 5.0}, "delhi": {"B-DST": 7.0}, "pune": {"B-DST": 7.0}}
    model = opened(token_classifier_folder(tmp_path, BIO, {**tags, "bangalore": "B-SRC"}))
    text = "Agra, Delhi, Pune, Bangalore"
    assert model.extract(text) == {"DST": "Delhi", "SRC": "Bangalore"}
    assert model.extract("nothing at all") == {}


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
    model = opened(token_classifier_folder(tmp_path, ("O", "SRC", "DST"), tags))
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
    model = opened(token_classifier_folder(tmp_path, BIO, tags))
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
    model = opened(token_classifier_folder(tmp_path, BIO, tags))
    # RoBERTa's words start with the piece of the space, so these are at the start of a text.
    assert named(model.entities("Zürich")) == [("SRC", "Zürich")]
    assert named(model.entities("🚌🚌")) == [("BUS", "🚌🚌")]
    assert named(model.entities("北京")) == [("DST", "北")]


def piece_of(tokenizer: Tokenizer, text: str) -> str:
    return str(tokenizer.encode(text, add_special_tokens=False).tokens[0])


def test_long_texts_are_read_in_windows_that_cut_and_double_nothing(tmp_path: Path) -> None:
    copy_tokenizer(tmp_path, max_length=22)
    # 20 pieces of text in a window, 5 of them repeated: two next to each edge are never believed.
    folder = token_classifier_folder(tmp_path, (*BIO, "B-WRONG"), BUS_TAGS, blind=3)
    model = opened(folder)
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


def test_many_texts_give_what_each_gives_alone(bus: TokenClassificationModel) -> None:
    texts = [
        "to Agra",
        "",
        "From Bangalore to New Delhi, Non-AC",
        ["to", "Agra"],
        "Bangalore " * 700,
    ]
    together = bus.entities_batch(texts, batch_size=2)
    assert together == [bus.entities(text) for text in texts]
    assert [len(entities) for entities in together] == [1, 0, 3, 1, 700]
    assert bus.tags_batch(texts, batch_size=3) == [bus.tags(text) for text in texts]
    assert bus.entities_batch([]) == []


def test_left_padding_does_not_move_the_tags(bus_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bus_folder, tmp_path / "left")
    copy_tokenizer(tmp_path / "left", max_length=512, padding_side="left")
    texts = ["to Agra", "From Bangalore to New Delhi, Non-AC"]
    expected = opened(bus_folder).entities_batch(texts)
    assert opened(tmp_path / "left").entities_batch(texts) == expected


class Logits(nn.Module):
    """The logits of a transformers token classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[batch, sequence, labels]``."""
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).logits


@pytest.fixture(scope="session")
def network() -> BertForTokenClassification:
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.2,  # so that neighbours get tags that differ
        attn_implementation="eager",
        **label_config(BIO),
    )
    return BertForTokenClassification(config).eval()


@pytest.fixture(scope="session")
def random_folder(
    tmp_path_factory: pytest.TempPathFactory, network: BertForTokenClassification
) -> Path:
    folder = tmp_path_factory.mktemp("random")
    copy_tokenizer(folder, max_length=512)
    write_json(folder / "config.json", label_config(BIO))
    export_graph(Logits(network), folder / "onnx" / "model.onnx", ("logits",))
    return folder


def test_entities_and_scores_are_those_of_the_transformers_pipeline(
    random_folder: Path, network: BertForTokenClassification
) -> None:
    theirs = pipeline(
        "token-classification",
        model=network,
        tokenizer=BertTokenizerFast.from_pretrained(random_folder),
        aggregation_strategy="first",
        device="cpu",
    )
    texts = [
        "Is there a sleeper from Coimbatore to Tirupati on Wednesday, or perhaps later?",
        "unfathomably mischaracterised supercalifragilistic words of many pieces",
        "The quick brown fox jumps over the lazy dog; twice!",
    ]
    model = opened(random_folder)
    for text in texts:
        expected = theirs(text)
        ours = model.entities(text)
        assert len(ours) > 1
        keys = ("entity_group", "start", "end")
        assert [(found.label, found.start, found.end) for found in ours] == [
            tuple(found[key] for key in keys) for found in expected
        ]
        scores = [found["score"] for found in expected]
        assert [found.score for found in ours] == pytest.approx(scores, abs=1e-5)


def test_tags_of_given_words_are_those_of_their_first_pieces_in_training(
    random_folder: Path, network: BertForTokenClassification
) -> None:
    words = ["A", "Non-AC", "bus,", "from", "Coimbatore", "(O'Brien's)", "北京", "to", "Tirupati."]
    tokenizer = BertTokenizerFast.from_pretrained(random_folder)
    encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        best = network(**encoded).logits[0].argmax(-1).tolist()
    expected = [BIO[best[encoded.word_ids().index(index)]] for index in range(len(words))]
    assert len(set(expected)) > 2
    assert opened(random_folder).tags(words) == list(zip(words, expected, strict=True))


@pytest.mark.parametrize("text", [None, 3, b"bytes", [None], [b"bytes"], ["good", 3]])
def test_what_is_not_a_text_is_refused(bus: TokenClassificationModel, text: object) -> None:
    with pytest.raises(InputError, match="str"):
        bus.entities(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [None, "one text", 3])
def test_a_batch_is_a_sequence_of_texts(bus: TokenClassificationModel, texts: object) -> None:
    with pytest.raises(InputError, match="texts must be a sequence"):
        bus.entities_batch(texts)  # type: ignore[arg-type]


def test_labels_that_do_not_fit_the_graph_are_told(bus_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(bus_folder, folder)
    write_json(folder / "config.json", label_config(BIO[:3]))
    with pytest.raises(InputError, match=r"gives 7 logits, but config\.json names 3 labels"):
        opened(folder).entities("text")
    write_json(folder / "conversion.json", {"family": "token_classification"})
    write_json(folder / "config.json", {"model_type": "bert"})
    with pytest.raises(InputError, match="has no id2label"):
        load(folder)
