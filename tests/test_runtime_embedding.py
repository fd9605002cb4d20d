"""What the embedding runtime promises, measured against sentence-transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_folders import (
    MINILM,
    merge_json,
    minilm_folder,
    opened_embedding,
    tiny_checkpoint,
    tiny_embedding_folder,
    write_byte_tokenizer,
    write_json,
    write_modules,
)
from sentence_transformers import SentenceTransformer, models

from retort.errors import InputError
from retort.runtime import load
from retort.runtime.pooling import POOLINGS, pool

TOLERANCE = 1e-5

TEXTS = [
    "A man is eating food.",
    "",
    "   leading and trailing space \n",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "速い茶色の狐がのろまな犬を飛び越える",
    "我爱北京天安门",
    "नमस्ते दुनिया",
    "กรุงเทพมหานคร",
    "مرحبا بالعالم",
    "🚌👨‍👩‍👧 emoji only? 🎉",
    "e\u0301clair, cafe\u0301, nai\u0308ve",
    "x",
    "!?...;;; -- [SEP] [MASK]",
    "a long text about nothing at all, " * 120,
    "UPPER lower MiXeD 12,345.67",
]
SHORT_TEXTS = ["One two three.", "Seven", "", "From Delhi to Agra by bus", "ABC Def"]
PROMPTS = {"query": "query: ", "passage": "passage: ", "hint": "Find the bus: "}


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minilm_folder(tmp_path_factory.mktemp("minilm"))


@pytest.fixture(scope="session")
def minilm_reference() -> SentenceTransformer:
    return SentenceTransformer(str(MINILM), device="cpu")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def unpooled(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("unpooled")
    return tiny_embedding_folder(checkpoint, folder, is_pooled=False)


@pytest.fixture(scope="session")
def pooled_template(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("pooled")
    return tiny_embedding_folder(checkpoint, folder, is_pooled=True)


@pytest.fixture
def pooled(tmp_path: Path, pooled_template: Path) -> Path:
    """Return a folder of one's own, described as mean pooling and unit length."""
    folder = tmp_path / "pooled"
    shutil.copytree(pooled_template, folder)
    write_modules(folder, {"pooling_mode_mean_tokens": True}, ("Normalize",))
    return folder


def reference(
    checkpoint: Path,
    mode: str = "mean",
    *,
    include_prompt: bool = True,
    max_seq_length: int | None = None,
    do_lower_case: bool = False,
    prompts: dict[str, str] | None = None,
    default_prompt_name: str | None = None,
) -> SentenceTransformer:
    backbone = models.Transformer(
        str(checkpoint), max_seq_length=max_seq_length, do_lower_case=do_lower_case
    )
    pooling = models.Pooling(16, mode, include_prompt=include_prompt)
    return SentenceTransformer(
        modules=[backbone, pooling, models.Normalize()],
        device="cpu",
        prompts=prompts,
        default_prompt_name=default_prompt_name,
    )


def test_encode_equals_sentence_transformers_on_texts_of_many_kinds(
    minilm: Path, minilm_reference: SentenceTransformer
) -> None:
    vectors = opened_embedding(minilm).encode(TEXTS, batch_size=4)
    expected = minilm_reference.encode(TEXTS, batch_size=4)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)


def test_vectors_do_not_depend_on_the_batch_and_keep_the_order_of_the_texts(minilm: Path) -> None:
    model = opened_embedding(minilm)
    one_by_one = np.stack([model.encode(text) for text in TEXTS])
    np.testing.assert_allclose(model.encode(TEXTS, batch_size=3), one_by_one, atol=TOLERANCE)


def test_one_text_gives_one_vector_and_no_text_gives_no_rows(minilm: Path) -> None:
    model = opened_embedding(minilm)
    assert model.encode("one").shape == (384,)
    assert model.encode(["one"]).shape == (1, 384)
    assert model.encode([]).shape == (0, 384)
    assert model.encode([]).dtype == np.float32
    assert model.dimension == 384
    assert model.max_length == 256


def test_normalize_gives_unit_length(unpooled: Path) -> None:
    vectors = opened_embedding(unpooled).encode(SHORT_TEXTS, pooling="mean", normalize=True)
    plain = opened_embedding(unpooled).encode(SHORT_TEXTS, pooling="mean")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=TOLERANCE)
    assert np.abs(np.linalg.norm(plain, axis=1) - 1).min() > 0.01


@pytest.mark.parametrize("mode", POOLINGS)
def test_each_pooling_outside_the_graph_equals_that_of_sentence_transformers(
    mode: str, checkpoint: Path, unpooled: Path
) -> None:
    vectors = opened_embedding(unpooled).encode(SHORT_TEXTS, pooling=mode, normalize=True)
    expected = reference(checkpoint, mode).encode(SHORT_TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)


@pytest.mark.parametrize("mode", POOLINGS)
def test_padding_on_either_side_leaves_the_pooled_vector_of_a_text_alone(mode: str) -> None:
    generator = np.random.default_rng(3)
    module = models.Pooling(5, mode)
    for length in (1, 2, 6):
        hidden = generator.normal(size=(1, length, 5)).astype(np.float32)
        features = {
            "token_embeddings": torch.from_numpy(hidden.copy()),
            "attention_mask": torch.ones(1, length, dtype=torch.int64),
        }
        expected = module(features)["sentence_embedding"].numpy()
        for left, right in ((0, 3), (3, 0)):
            noise = np.full((1, 3, 5), 7, dtype=np.float32)
            padded = np.concatenate([noise[:, :left], hidden, noise[:, :right]], axis=1)
            mask = np.array([[0] * left + [1] * length + [0] * right])
            np.testing.assert_allclose(pool(padded, mask, (mode,)), expected, rtol=1e-5)


def test_a_tokenizer_that_pads_on_the_left_is_followed(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", padding_side="left")
    folder = tiny_embedding_folder(checkpoint, tmp_path / "folder", is_pooled=False)
    vectors = opened_embedding(folder).encode(SHORT_TEXTS, pooling="lasttoken", normalize=True)
    expected = reference(checkpoint, "lasttoken").encode(SHORT_TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)


def test_a_graph_without_pooling_is_pooled_as_modules_json_says(
    tmp_path: Path, checkpoint: Path, unpooled: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(unpooled, folder)
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write_modules(folder, {**modes, "pooling_mode_max_tokens": True}, ("Normalize",))
    backbone = models.Transformer(str(checkpoint))
    pooling = models.Pooling(16, **modes, pooling_mode_max_tokens=True)
    both = SentenceTransformer(modules=[backbone, pooling, models.Normalize()], device="cpu")
    vectors = opened_embedding(folder).encode(SHORT_TEXTS)
    assert vectors.shape == (len(SHORT_TEXTS), 32)
    np.testing.assert_allclose(vectors, both.encode(SHORT_TEXTS), atol=TOLERANCE)


def test_a_graph_without_pooling_asks_for_one(unpooled: Path) -> None:
    with pytest.raises(
        InputError, match=r"convert the checkpoint with --pooling, or pass pooling="
    ):
        opened_embedding(unpooled).encode("text")
    with pytest.raises(InputError, match="choose from cls, max, mean"):
        opened_embedding(unpooled).encode("text", pooling="median")


def test_prompts_are_chosen_as_sentence_transformers_chooses_them(
    pooled: Path, checkpoint: Path
) -> None:
    config = {"prompts": PROMPTS, "default_prompt_name": "hint"}
    write_json(pooled / "config_sentence_transformers.json", config)
    ours = opened_embedding(pooled)
    theirs = reference(checkpoint, prompts=PROMPTS, default_prompt_name="hint")
    seen = set()
    for method in ("encode", "encode_query", "encode_document"):
        for options in ({}, {"prompt_name": "passage"}, {"prompt": "say: "}, {"prompt": ""}):
            vectors = getattr(ours, method)(SHORT_TEXTS, **options)
            expected = getattr(theirs, method)(SHORT_TEXTS, **options)
            np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)
            seen.add(round(float(vectors[0, 0]), 4))
    # Default, query, passage, the prompt given, and none: five results that differ.
    assert len(seen) == 5


def test_an_unknown_prompt_name_is_told_with_those_there_are(pooled: Path) -> None:
    write_json(pooled / "config_sentence_transformers.json", {"prompts": PROMPTS})
    with pytest.raises(InputError, match="no prompt 'title': choose from query, document, passage"):
        opened_embedding(pooled).encode("text", prompt_name="title")
    write_json(pooled / "config_sentence_transformers.json", {"default_prompt_name": "title"})
    with pytest.raises(InputError, match="no prompt 'title'"):
        load(pooled)


@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean", "lasttoken", "max"])
def test_a_prompt_that_is_not_included_is_left_out_of_the_pooling(
    mode: str, pooled: Path, checkpoint: Path
) -> None:
    pooling = {"pooling_mode": mode, "include_prompt": False}
    write_modules(pooled, pooling, ("Normalize",))
    ours, theirs = opened_embedding(pooled), reference(checkpoint, mode, include_prompt=False)
    vectors = ours.encode(SHORT_TEXTS, prompt="Find the bus: ")
    expected = theirs.encode(SHORT_TEXTS, prompt="Find the bus: ")
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)


def test_a_prompt_that_is_not_included_cannot_be_left_out_before_a_dense_layer(
    pooled: Path,
) -> None:
    write_modules(pooled, {"include_prompt": False}, ("Dense", "Normalize"))
    model = opened_embedding(pooled)
    assert model.encode("text").shape == (16,)
    with pytest.raises(InputError, match="cannot apply the modules Dense"):
        model.encode("text", prompt="Find: ")


def test_max_seq_length_and_do_lower_case_are_followed(
    pooled: Path, checkpoint: Path, tmp_path: Path
) -> None:
    # A cased tokenizer, so that the setting is what lowers the texts.
    cased_checkpoint = tmp_path / "cased"
    shutil.copytree(checkpoint, cased_checkpoint)
    normalizer = json.loads((pooled / "tokenizer.json").read_text())["normalizer"]
    for folder in (pooled, cased_checkpoint):
        merge_json(folder / "tokenizer.json", {"normalizer": {**normalizer, "lowercase": False}})
        merge_json(folder / "tokenizer_config.json", {"do_lower_case": False})
    texts = [*SHORT_TEXTS, "Bus FROM Delhi TO Agra " * 9]
    lower = {"max_seq_length": 11, "do_lower_case": True}
    write_json(pooled / "sentence_bert_config.json", lower)
    expected = reference(cased_checkpoint, max_seq_length=11, do_lower_case=True).encode(texts)
    model = opened_embedding(pooled)
    assert model.max_length == 11
    np.testing.assert_allclose(model.encode(texts), expected, atol=TOLERANCE)
    write_json(pooled / "sentence_bert_config.json", {**lower, "do_lower_case": False})
    assert np.abs(opened_embedding(pooled).encode(texts) - expected).max() > 0.01


@pytest.mark.parametrize("do_lower_case", [False, True])
def test_space_at_the_ends_and_token_types_are_treated_as_in_sentence_transformers(
    do_lower_case: bool, pooled: Path, checkpoint: Path, tmp_path: Path
) -> None:
    # To this tokenizer every space is a piece, and it gives a token type other than 0.
    copy = tmp_path / "bytes"
    shutil.copytree(checkpoint, copy, ignore=shutil.ignore_patterns("vocab.txt", "*token*"))
    for folder in (pooled, copy):
        write_byte_tokenizer(folder)
    write_json(pooled / "sentence_bert_config.json", {"do_lower_case": do_lower_case})
    texts = [*SHORT_TEXTS, "  Spaces \n", "Äé 🚌"]
    theirs = reference(copy, do_lower_case=do_lower_case)
    for prompt in (None, "  Find  "):
        vectors = opened_embedding(pooled).encode(texts, prompt=prompt)
        np.testing.assert_allclose(vectors, theirs.encode(texts, prompt=prompt), atol=TOLERANCE)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_is_that_of_sentence_transformers(name: str, pooled: Path) -> None:
    write_json(pooled / "config_sentence_transformers.json", {"similarity_fn_name": name})
    generator = np.random.default_rng(5)
    left, right = generator.normal(size=(2, 4, 16)).astype(np.float32)
    theirs = SentenceTransformer(modules=[], similarity_fn_name=name, device="cpu")
    model = opened_embedding(pooled)
    expected = theirs.similarity(left, right[:3]).numpy()
    np.testing.assert_allclose(model.similarity(left, right[:3]), expected, atol=1e-4)
    assert model.similarity(left[0], right[0]).shape == (1, 1)
