"""Which folders and graphs the SPLADE runtime opens, and what it says of others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runtime_folders import merge_json, tiny_checkpoint, tiny_embedding_folder
from sparse_folders import PAIR, SIZE, VOCABULARY, hand_made, opened, write_graph
from sparse_pairs import logits_pair

from retort.errors import InputError
from retort.runtime import EmbeddingModel, SparseModel, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of one's own, whose graph gives the logits by hand."""
    return hand_made(tmp_path / "model", ["logits"])


def test_a_graph_alone_is_opened_with_the_tokenizer_beside_it_or_above(folder: Path) -> None:
    expected = opened(folder).encode("red foxes")
    graph = folder / "onnx" / "model.onnx"
    assert opened(graph).encode("red foxes") == expected
    beside = folder / "other.onnx"
    shutil.copyfile(graph, beside)
    assert opened(beside).encode("red foxes") == expected
    with pytest.raises(InputError, match="is a graph itself: give its folder, or no other"):
        load(graph, "other.onnx")
    with pytest.raises(InputError, match=r"nope\.onnx is not there"):
        load(folder / "nope.onnx")


@pytest.mark.parametrize("name", ["splade-pp.onnx", "splade-pp-optimized.onnx"])
def test_a_graph_with_anserini_s_vocabulary_beside_it_is_enough(
    name: str, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "anserini"
    write_graph(place / name, PAIR)
    vocabulary = place / "splade-pp-vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    model = opened(place / name)
    texts = ["Réd foxes", "", "dog"]
    for ours, theirs in zip(model.encode(texts), opened(folder).encode(texts), strict=True):
        assert ours == pytest.approx(theirs)
    assert (model.max_length, model.dimension) == (512, SIZE)
    vocabulary.write_text("red\nblue\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"lacks \[UNK\], \[CLS\], \[SEP\], which BERT needs"):
        load(place / name)
    vocabulary.write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        load(place / name)
    vocabulary.unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        load(place / name)


@pytest.mark.parametrize("outputs", [["sparse_vector"], PAIR, ["logits", *PAIR]])
def test_graphs_without_metadata_are_recognised_by_their_outputs(
    outputs: list[str], tmp_path: Path
) -> None:
    assert isinstance(load(hand_made(tmp_path / "bare", outputs, family=None)), SparseModel)


def test_logits_alone_are_recognised_by_a_splade_pooling(tmp_path: Path) -> None:
    bare = hand_made(tmp_path / "bare", ["logits"], family=None)
    with pytest.raises(InputError, match="which are not those of"):
        load(bare)
    assert isinstance(load(logits_pair("max relu").folder), SparseModel)
    assert isinstance(load(logits_pair("inference-free").folder), SparseModel)
    embedding = tiny_embedding_folder(
        tiny_checkpoint(tmp_path / "tiny"), tmp_path / "embedding", is_pooled=True
    )
    assert isinstance(load(embedding), EmbeddingModel)


def test_a_graph_without_weights_of_terms_is_told(folder: Path) -> None:
    write_graph(folder / "onnx" / "model.onnx", ["output_idx"])
    with pytest.raises(InputError, match="has the outputs output_idx, but neither sparse_vector"):
        load(folder)


def test_a_pooling_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(logits_pair("max relu").folder, folder)
    config = folder / "1_SpladePooling" / "config.json"
    merge_json(config, {"pooling_strategy": "mean"})
    with pytest.raises(InputError, match="no mean of relu is known, but max or sum of relu or"):
        load(folder)
    config.unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load(folder)
