"""What the token classification runtime promises, on models that give tags of our choice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_folders import (
    BIO,
    copy_tokenizer,
    export_graph,
    label_config,
    named,
    opened_classifier,
    token_classifier_folder,
    write_json,
)
from torch import nn
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast, pipeline

from retort.errors import InputError
from retort.runtime import TokenClassificationModel, load

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
    return opened_classifier(bus_folder)


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
    folder = token_classifier_folder(tmp_path, BIO, {**tags, "bangalore": "B-SRC"})
    model = opened_classifier(folder)
    text = "Agra, Delhi, Pune, Bangalore"
    assert model.extract(text) == {"DST": "Delhi", "SRC": "Bangalore"}
    assert model.extract("nothing at all") == {}


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
    expected = opened_classifier(bus_folder).entities_batch(texts)
    assert opened_classifier(tmp_path / "left").entities_batch(texts) == expected


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
    model = opened_classifier(random_folder)
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
    assert opened_classifier(random_folder).tags(words) == list(zip(words, expected, strict=True))


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
        opened_classifier(folder).entities("text")
    write_json(folder / "conversion.json", {"family": "token_classification"})
    write_json(folder / "config.json", {"model_type": "bert"})
    with pytest.raises(InputError, match="has no id2label"):
        load(folder)
