"""Which checkpoints are ColBERT's, what they may say, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from colbert_checkpoints import DenseLayer, build_colbert, build_stanford
from command_line import earlier_result, refused
from converted import change_json
from local_models import resolved
from pylate.models import ColBERT
from safetensors.torch import load_file, save_file
from tiny_checkpoints import build_encoder, build_sentence_transformer
from tiny_tokenizers import MAX_LENGTH
from tokenizers import Tokenizer

import convert
from onnx_configs import families
from retort.arguments import ConversionArguments, ExportArguments
from retort.json_files import read_json, write_json

Capture = pytest.CaptureFixture[str]
SETTINGS = "config_sentence_transformers.json"
METADATA = "artifact.metadata"


def bert(folder: Path) -> Path:
    return build_colbert(folder, "bert")


def with_types(*types: str) -> Callable[[Path], Path]:
    """Return a builder of a checkpoint whose modules have other types."""

    def build(folder: Path) -> Path:
        layers = [DenseLayer(16)] * (len(types) - 1)
        build_colbert(folder, "bert", dense=layers)
        modules = read_json(folder / "modules.json")
        for module, kind in zip(modules, types, strict=True):
            module["type"] = kind
        write_json(folder / "modules.json", modules)
        return folder

    return build


def said(file: str, **values: object) -> Callable[[Path], Path]:
    """Return a builder of a checkpoint with a JSON file that says something else."""

    def build(folder: Path) -> Path:
        made = build_stanford(folder) if file == METADATA else bert(folder)
        change_json(made / file, **values)
        return folder

    return build


TRANSFORMER = "sentence_transformers.models.Transformer"
PYLATE_DENSE, THEIR_DENSE = "pylate.models.Dense.Dense", "sentence_transformers.models.Dense"


@pytest.mark.parametrize(
    ("build", "family"),
    [
        (bert, "colbert"),
        (with_types(TRANSFORMER, THEIR_DENSE, PYLATE_DENSE), "colbert"),
        (build_stanford, "colbert"),
        (lambda folder: build_encoder(folder, "bert"), "embedding"),
        (lambda folder: build_sentence_transformer(folder, "bert"), "embedding"),
        (
            lambda folder: build_sentence_transformer(folder, "bert", dense=[(16, "Tanh")]),
            "embedding",
        ),
    ],
    ids=["PyLate's Dense", "two kinds of Dense", "Stanford's", "plain", "pooled", "pooled, Dense"],
)
def test_a_dense_layer_without_a_pooling_or_stanford_s_class_makes_a_colbert(
    build: Callable[[Path], Path], family: str, tmp_path: Path
) -> None:
    checkpoint = resolved(build(tmp_path / "checkpoint"))
    assert [name for name, known in families().items() if known.recognises(checkpoint)] == [family]


def without_linear(folder: Path) -> Path:
    build_stanford(folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["linear.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without_dense_weights(folder: Path) -> Path:
    (bert(folder) / "1_Dense" / "model.safetensors").unlink()
    return folder


def without_spare_tokens(folder: Path) -> Path:
    """Write a decoder whose tokenizer has no mask, no end and no padding token."""
    build_colbert(folder, "llama")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = read_json(folder / name)
        write_json(folder / name, {k: v for k, v in content.items() if k != "pad_token"})
    return folder


def with_new_prefix(folder: Path) -> Path:
    """Write a checkpoint whose tokenizer has more tokens than its model has vectors."""
    said(SETTINGS, query_prefix="[New]")(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["[New]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@dataclass(frozen=True)
class Case:
    """A checkpoint that is refused: how it comes about, what the line holds, and the options."""

    build: Callable[[Path], Path]
    told: tuple[str, ...]
    options: tuple[str, ...] = ()


CASES = {
    "a module that no graph has": Case(
        with_types(TRANSFORMER, PYLATE_DENSE, "sentence_transformers.models.LSTM"),
        ("modules.json: cannot put sentence_transformers.models.LSTM into", "Dense"),
    ),
    "another first module": Case(
        with_types("sentence_transformers.models.StaticEmbedding", THEIR_DENSE),
        ("modules.json: cannot put sentence_transformers.models.StaticEmbedding into",),
    ),
    "no Dense": Case(
        lambda folder: build_encoder(folder, "bert"),
        ("has no Dense layer", "random weights"),
        ("--family", "colbert"),
    ),
    "a pooling": Case(
        lambda folder: build_sentence_transformer(folder, "bert"),
        ("modules.json: cannot put sentence_transformers.models.Pooling into",),
        ("--family", "colbert"),
    ),
    "a pooling that is asked for": Case(
        bert, ("--pooling is for embedding", "colbert"), ("--pooling", "mean")
    ),
    "a prefix that the tokenizer lacks": Case(
        said(SETTINGS, query_prefix="[Query] "), ("no token '[Query] '", SETTINGS)
    ),
    "a prefix that the model lacks": Case(with_new_prefix, ("no token '[New]'", SETTINGS)),
    "a prefix that is no text": Case(
        said(SETTINGS, document_prefix=3), (f"{SETTINGS}: document_prefix is 3",)
    ),
    "a length in words": Case(
        said(SETTINGS, query_length="32"), (f"{SETTINGS}: query_length is '32'",)
    ),
    "a length that is none": Case(
        said(SETTINGS, document_length=True), (f"{SETTINGS}: document_length is True",)
    ),
    "a length of one": Case(said(SETTINGS, query_length=1), ("query_length is 1",)),
    "an expansion in words": Case(
        said(SETTINGS, do_query_expansion="yes"), ("do_query_expansion is 'yes'",)
    ),
    "a skiplist that is no list": Case(said(SETTINGS, skiplist_words="!"), ("skiplist_words is",)),
    "a skiplist of numbers": Case(said(SETTINGS, skiplist_words=[1]), ("skiplist_words is [1]",)),
    "a length in Stanford's words": Case(
        said(METADATA, doc_maxlen="180"), (f"{METADATA}: document_length is '180'",)
    ),
    "nothing to expand with": Case(
        without_spare_tokens, ("neither a mask, an end nor a padding token",)
    ),
    "Stanford's without its projection": Case(without_linear, ("the weights lack linear.weight",)),
    "Dense without weights": Case(without_dense_weights, ("1_Dense/model.safetensors: not found",)),
    "Dense of other widths": Case(
        said("1_Dense/config.json", out_features=8), ("1_Dense: weights and config.json disagree",)
    ),
    "Dense of no width": Case(
        said("1_Dense/config.json", in_features="wide"), ("no in_features and out_features",)
    ),
    "an activation that is none": Case(
        said("1_Dense/config.json", activation_function="os.kill"),
        ("1_Dense/config.json: os.kill is not an activation",),
    ),
    "an activation that takes arguments": Case(
        said("1_Dense/config.json", activation_function="torch.nn.modules.linear.Linear"),
        ("torch.nn.modules.linear.Linear is not an activation",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_that_cannot_be_used_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    case, out = CASES[name], earlier_result(tmp_path / "out")
    source = case.build(tmp_path / "source" / "other")
    error = refused(capsys, source, out, *case.options)
    assert not [part for part in case.told if part not in error], error


def test_a_tokenizer_that_cannot_be_loaded_is_told_in_one_line(
    tmp_path: Path, capsys: Capture
) -> None:
    source = said("tokenizer_config.json", tokenizer_class="Nope")(tmp_path / "source" / "other")
    error = refused(capsys, source, earlier_result(tmp_path / "out"), code=1)
    assert error.startswith(f"error: loading the tokenizer of {source} failed: ")
    assert "Nope" in error


def test_what_a_checkpoint_leaves_open_is_pylate_s_default(tmp_path: Path) -> None:
    folder = bert(tmp_path / "checkpoint")
    kept = {"model_type", "query_prefix", "__version__"}
    content = read_json(folder / SETTINGS)
    told = {key: value for key, value in content.items() if key in kept}
    write_json(folder / SETTINGS, {**told, "document_length": None})
    model: Any = ColBERT(str(folder), device="cpu")
    fields = families()["colbert"].sidecars(resolved(folder), ExportArguments())[SETTINGS]
    for name in (
        *("query_prefix", "document_prefix", "query_length", "document_length", "skiplist_words"),
        *("do_query_expansion", "attend_to_expansion_tokens"),
        *("query_prefix_id", "document_prefix_id"),
    ):
        assert fields[name] == getattr(model, name), name


def test_lengths_beyond_the_positions_are_validated_as_far_as_those_reach(tmp_path: Path) -> None:
    checkpoint = build_colbert(
        tmp_path / "checkpoint", "roberta", query_length=200, document_length=600
    )
    arguments = ConversionArguments(
        model_id=str(checkpoint), output_dir=str(tmp_path / "out"), optimize=0, quiet=True
    )
    report = convert.convert(arguments).report
    assert report is not None
    assert report.reference == "PyLate 1.6.0"
    assert report.files[0].largest_difference < 1e-4
    told = {
        name: [read_json(tmp_path / "out" / name)[key] for key in keys]
        for name, keys in {
            "tokenizer_config.json": ["model_max_length"],
            SETTINGS: ["query_length", "document_length"],
            "onnx_config.json": ["query_length", "document_length"],
        }.items()
    }
    assert told == {
        "tokenizer_config.json": [MAX_LENGTH],
        SETTINGS: [200, 600],
        "onnx_config.json": [MAX_LENGTH, MAX_LENGTH],
    }
