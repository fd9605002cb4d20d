"""The runtime tokenizes as transformers does, on published tokenizers and real sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from agreement import FP32_TOLERANCE, sentence_transformer
from converted import Converted, converted, workshop
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from shared_data import SHARED_DATA
from tiny_checkpoints import HIDDEN_SIZE, build_encoder, randomize
from transformers import (
    AutoConfig,
    AutoModel,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaTokenizerFast,
    XLMRobertaTokenizerFast,
)

from retort.runtime import load

pytestmark = pytest.mark.shared_data

MAX_SEQ_LENGTH = 64
SENTENCES = 50
LANGUAGES = ("ara", "cmn", "deu", "fra", "heb", "hin", "jpn", "kor", "rus", "tha")


@dataclass(frozen=True)
class Published:
    """A published tokenizer: the architecture and the class that it is used with."""

    architecture: str
    wrapper: type[PreTrainedTokenizerFast]
    cased: bool = False


TOKENIZERS: Mapping[str, Published] = {
    "bert-base-cased": Published("bert", BertTokenizerFast, cased=True),
    "bert-base-multilingual-cased": Published("bert", BertTokenizerFast, cased=True),
    "roberta-base": Published("roberta", RobertaTokenizerFast),
    "xlm-roberta-base": Published("xlm-roberta", XLMRobertaTokenizerFast),
}


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    published = TOKENIZERS[name]
    settings = {"do_lower_case": False} if published.cased else {}
    file = SHARED_DATA / "tokenizers" / name / "tokenizer.json"
    return published.wrapper(tokenizer_file=str(file), model_max_length=128, **settings)


def checkpoint_of(name: str, folder: Path) -> Path:
    """Write a tiny sentence-transformers checkpoint with a published tokenizer."""
    tokenizer = tokenizer_of(name)
    backbone = build_encoder(folder / "backbone", TOKENIZERS[name].architecture)
    config = AutoConfig.from_pretrained(backbone)
    config.vocab_size = len(tokenizer)
    config.pad_token_id = tokenizer.pad_token_id
    model = AutoModel.from_config(config)
    randomize(model, seed=0)
    for file in backbone.iterdir():
        file.unlink()
    model.save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    transformer = Transformer(str(backbone), max_seq_length=MAX_SEQ_LENGTH)
    modules = [transformer, Pooling(HIDDEN_SIZE, "mean"), Normalize()]
    checkpoint = folder / "checkpoint"
    SentenceTransformer(modules=modules, device="cpu").save(
        str(checkpoint), create_model_card=False
    )
    return checkpoint


@cache
def published(name: str) -> Converted:
    return converted(checkpoint_of(name, workshop() / f"published-{name}"), optimize=0)


@cache
def sentences() -> list[str]:
    """Return sentences in ten languages, and one text that is too long for the model."""
    each = SENTENCES // len(LANGUAGES)
    lines = [
        line
        for language in LANGUAGES
        for line in (SHARED_DATA / "tatoeba" / f"tatoeba.{language}-eng.{language}")
        .read_text(encoding="utf-8")
        .splitlines()[:each]
    ]
    return [*lines, " ".join(lines)]


def test_there_are_fifty_sentences_and_a_long_text() -> None:
    assert len(sentences()) == SENTENCES + 1
    assert len(set(sentences())) == SENTENCES + 1


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_runtime_encodes_real_sentences_as_sentence_transformers_does(name: str) -> None:
    result = published(name)
    reference = sentence_transformer(result.checkpoint)
    assert reference.tokenizer.is_fast
    expected = reference.encode(sentences())
    vectors = load(result.folder).encode(sentences())
    np.testing.assert_allclose(vectors, expected, atol=FP32_TOLERANCE)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_sentences_are_told_apart(name: str) -> None:
    vectors = load(published(name).folder).encode(sentences())
    likeness = vectors @ vectors.T
    others = likeness[~np.eye(len(likeness), dtype=bool)]
    assert others.mean() < 0.95
