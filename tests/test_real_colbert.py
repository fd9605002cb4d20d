"""ColBERT files beside PyLate itself, on real texts in more than twenty languages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from agreement import FLOAT16_COSINE, FP32_TOLERANCE, Tensors, cosine, run_graph
from colbert_checkpoints import DenseLayer, build_stanford
from converted import MINILM, Converted, converted, workshop
from pylate.models import ColBERT
from pylate.models import Dense as PyLateDense
from sentence_transformers.models import Transformer
from shared_data import SHARED_DATA
from tiny_checkpoints import ARCHITECTURES, HIDDEN_SIZE, randomize
from tiny_tokenizers import MAX_LENGTH, TOKENIZERS, tiny_tokenizer
from tokenizers import Tokenizer, models, processors
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

pytestmark = pytest.mark.shared_data

XQUAD_LANGUAGES = ("en", "de", "hi", "zh")
QUESTIONS, PARAGRAPHS, SENTENCES = 24, 3, 5
LEAST_TEXTS = 200
DOCUMENT_LENGTH = 64
BATCHES = (1, 3, 8, 13)
FP32_FILES = ("onnx/model.onnx", "onnx/model_opt1.onnx")
FLOAT16_FILE, INT8_FILE = "onnx/model_fp16.onnx", "onnx/model_quantized.onnx"
REAL, MINILM_WIDTH = "MiniLM", 128
PREFIXES = ("[Q] ", "[D] ")
# Tiny vocabularies know a fifth of the Chinese texts; these are cut to the pieces of all texts.
PUBLISHED = {
    "bert": "bert-base-multilingual-cased",
    "distilbert": "bert-base-multilingual-cased",
    "xlm-roberta": "xlm-roberta-base",
}
HEADS: Mapping[str, tuple[DenseLayer, ...]] = {
    "one Dense": (DenseLayer(16),),
    "two Dense": (DenseLayer(24, bias=True, activation="Tanh"), DenseLayer(16)),
    "residual Dense": (DenseLayer(HIDDEN_SIZE, residual=True), DenseLayer(16, residual=True)),
}


@dataclass(frozen=True)
class Batch:
    """One batch as PyLate feeds it to its model, and what ``encode`` gives for it.

    Attributes:
        name: Whether they are queries, and where they start.
        inputs: PyLate's own tokens and mask, int64 ``[batch, sequence]``.
        expected: Its token embeddings, ``[batch, sequence, dim]``.
        counted: Which of them it keeps for MaxSim, ``[batch, sequence]``.
    """

    name: str
    inputs: Tensors
    expected: npt.NDArray[np.float32]
    counted: npt.NDArray[np.bool_]

    @property
    def attended(self) -> npt.NDArray[np.bool_]:
        """Which tokens are the text's and the prefix, ``[batch, sequence]``."""
        return self.inputs["attention_mask"].astype(bool)


def xquad(language: str, name: str, wanted: int) -> list[str]:
    path = SHARED_DATA / "xquad" / language / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:: len(lines) // wanted][:wanted]]


@cache
def texts() -> tuple[str, ...]:
    """Return questions, paragraphs and sentences, long ones beside short ones."""
    found = []
    for language in XQUAD_LANGUAGES:
        found += xquad(language, "queries", QUESTIONS) + xquad(language, "corpus", PARAGRAPHS)
    for path in sorted((SHARED_DATA / "tatoeba").glob("*-eng.*")):
        if path.suffix != ".eng":
            found += path.read_text(encoding="utf-8").splitlines()[:SENTENCES]
    order = np.random.default_rng(0).permutation(len(found))
    return tuple(found[index] for index in order)


@cache
def real_tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    """Return a published tokenizer with the pieces of the texts alone, else the tiny one."""
    if architecture not in PUBLISHED:
        return tiny_tokenizer(architecture)  # made of bytes, so nothing is unknown to it
    recipe = TOKENIZERS[architecture]
    path = SHARED_DATA / "tokenizers" / PUBLISHED[architecture] / "tokenizer.json"
    whole = Tokenizer.from_file(str(path))
    specials = list(recipe.tokens.values())
    used = {piece for encoded in whole.encode_batch(list(texts())) for piece in encoded.tokens}
    pieces = [*specials, *sorted(used - set(specials))]
    cut = Tokenizer(_model_of(path, pieces, recipe.tokens["unk_token"]))
    cut.normalizer, cut.pre_tokenizer = whole.normalizer, whole.pre_tokenizer
    cut.add_special_tokens(specials)
    single, pair = recipe.templates
    ids = [(token, specials.index(token)) for token in specials]
    cut.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    cased = {"do_lower_case": False} if recipe.tokens["unk_token"] == "[UNK]" else {}
    return recipe.wrapper(
        tokenizer_object=cut,
        model_input_names=list(recipe.inputs),
        model_max_length=MAX_LENGTH,
        **recipe.tokens,
        **cased,
    )


def _model_of(path: Path, pieces: Sequence[str], unknown: str) -> models.Model:
    known = json.loads(path.read_text(encoding="utf-8"))["model"]
    if known["type"] == "WordPiece":
        ids = {piece: index for index, piece in enumerate(pieces)}
        return models.WordPiece(ids, unk_token=unknown)
    scores = dict(known["vocab"])
    scored = [(piece, scores.get(piece, 0.0)) for piece in pieces]
    return models.Unigram(scored, unk_id=pieces.index(unknown))


def save_backbone(folder: Path, architecture: str) -> Path:
    row, tokenizer = ARCHITECTURES[architecture], real_tokenizer(architecture)
    config = AutoConfig.for_model(
        row.model_type,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        **row.settings,
    )
    model = AutoModel.from_config(config)
    randomize(model, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def dense(width: int, layer: DenseLayer, seed: int) -> PyLateDense:
    activation = getattr(nn, layer.activation)()
    module = PyLateDense(width, layer.width, layer.bias, activation, use_residual=layer.residual)
    randomize(module, seed)
    return module


def save_colbert(
    folder: Path, backbone: Path, heads: Sequence[PyLateDense], prefixes: tuple[str, str]
) -> Path:
    torch.manual_seed(0)  # PyLate draws the prefixes' word vectors
    query_prefix, document_prefix = prefixes
    model = ColBERT(
        modules=[Transformer(str(backbone)), *heads],
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        document_length=DOCUMENT_LENGTH,
        device="cpu",
    )
    model.save(str(folder), create_model_card=False)
    return folder


def save_tiny(
    folder: Path, architecture: str, head: str, prefixes: tuple[str, str] = PREFIXES
) -> Path:
    layers = HEADS[head]
    widths = [HIDDEN_SIZE, *(layer.width for layer in layers)]
    modules = [
        dense(width, layer, seed=index + 1)
        for index, (width, layer) in enumerate(zip(widths[:-1], layers, strict=True))
    ]
    backbone = save_backbone(folder / "backbone", architecture)
    return save_colbert(folder / "checkpoint", backbone, modules, prefixes)


def save_minilm(folder: Path) -> Path:
    torch.manual_seed(0)
    projection = PyLateDense(384, MINILM_WIDTH, bias=False)
    nn.init.orthogonal_(projection.linear.weight)
    return save_colbert(folder, MINILM, [projection], PREFIXES)


CHECKPOINTS: Mapping[str, Callable[[Path], Path]] = {
    REAL: save_minilm,
    **{
        f"{architecture}, {head}": partial(save_tiny, architecture=architecture, head=head)
        for architecture in ("bert", "modernbert", "xlm-roberta", "distilbert")
        for head in HEADS
    },
    "prefix-free": partial(save_tiny, architecture="bert", head="one Dense", prefixes=("", "")),
    "Stanford's": partial(build_stanford, query_maxlen=32, doc_maxlen=DOCUMENT_LENGTH),
}


@cache
def conversion(name: str) -> Converted:
    folder = workshop() / f"real-colbert-{list(CHECKPOINTS).index(name)}"
    precisions = ["Float16", "QInt8"] if name == REAL else ["Float16"]
    return converted(CHECKPOINTS[name](folder), quantize=precisions)


@cache
def pylate(name: str) -> ColBERT:
    return ColBERT(str(conversion(name).checkpoint), device="cpu")


@cache
def batches(name: str) -> tuple[Batch, ...]:
    """Return all texts as queries and as documents, in batches of different size."""
    model = pylate(name)
    return tuple(
        encoded(model, chunk, is_query) for is_query in (True, False) for chunk in chunks(texts())
    )


def chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = 0
    for size in cycle(BATCHES):
        if start >= len(texts):
            return
        yield texts[start : start + size]
        start += size


def encoded(model: ColBERT, texts: Sequence[str], is_query: bool) -> Batch:
    found = model.encode(list(texts), is_query=is_query, batch_size=len(texts), output_value=None)
    rows = {name: np.stack(values) for name, values in found.items()}
    name = f"{'queries' if is_query else 'documents'} from {texts[0][:20]!r}"
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
    return Batch(name, inputs, rows["token_embeddings"], rows["masks"].astype(bool))


def pairs(
    name: str, file: str, batches: Sequence[Batch]
) -> Iterator[tuple[Batch, npt.NDArray[np.float32]]]:
    """Yield each batch with what a file gives for it."""
    for batch in batches:
        yield batch, run_graph(conversion(name).folder / file, batch.inputs)["output"]


def attended_cosines(name: str, file: str, batches: Sequence[Batch]) -> npt.NDArray[np.float64]:
    """Return the cosine to PyLate of every token embedding but those of padding and expansion.

    Beyond the reach of ModernBERT's local attention an expansion token has no token of the text
    to attend to, and its Float16 embedding is another one (measured: cosines down to -0.6).
    """
    return np.concatenate(
        [
            cosine(b.expected[b.attended], found[b.attended])
            for b, found in pairs(name, file, batches)
        ]
    )


def test_there_are_two_hundred_texts_in_more_than_twenty_languages() -> None:
    assert len(texts()) == len(set(texts())) >= LEAST_TEXTS
    sentences = list((SHARED_DATA / "tatoeba").glob("*-eng.*"))
    assert len({path.suffix for path in sentences}) > 20


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_texts_are_many_different_tokens_to_every_checkpoint(name: str) -> None:
    unknown = pylate(name).tokenizer.unk_token_id
    ids = np.concatenate([b.inputs["input_ids"][b.attended] for b in batches(name)])
    assert len(np.unique(ids)) > 500
    assert (ids == unknown).mean() < 0.2
    embeddings = np.concatenate([b.expected[b.attended] for b in batches(name)])
    assert np.linalg.norm(embeddings.mean(axis=0)) < 0.8  # 1: all tokens have one embedding


@pytest.mark.parametrize("file", FP32_FILES)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_fp32_token_embeddings_are_those_of_pylate(name: str, file: str) -> None:
    for batch, found in pairs(name, file, batches(name)):
        used = batch.counted | batch.attended
        difference = np.abs(found[used] - batch.expected[used]).max()
        assert difference <= FP32_TOLERANCE, batch.name


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_float16_token_embeddings_point_where_those_of_pylate_do(name: str) -> None:
    some = batches(name)[:: 3 if name == REAL else 1]
    assert attended_cosines(name, FLOAT16_FILE, some).min() >= FLOAT16_COSINE


def test_8_bit_token_embeddings_of_minilm_are_as_close_as_promised() -> None:
    model = pylate(REAL)
    english = [*xquad("en", "queries", 60), *xquad("en", "corpus", 8)]
    found = [
        encoded(model, chunk, is_query) for is_query in (True, False) for chunk in chunks(english)
    ]
    cosines = attended_cosines(REAL, INT8_FILE, found)
    assert cosines.mean() >= 0.985
    assert cosines.min() >= 0.88
