"""Run every graph of a folder beside PyTorch, with plain onnxruntime.

The PyTorch side is sentence-transformers or transformers on the untouched checkpoint; nothing
here shares code with what made or validates the graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from converted import Converted
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForTokenClassification, AutoTokenizer

from retort.arguments import ConversionArguments
from retort.artifact import Artifact
from retort.stages.quantize import quantize, quantize_settings
from retort.texts import validation_texts

Tensors = dict[str, npt.NDArray[Any]]
Tokenize = Callable[[Sequence[str], str], Tensors]

FP32_TOLERANCE = 1e-4
FLOAT16_COSINE = 0.999
ALL_TEXTS = [sample.text for sample in validation_texts()]
LONGEST = max(ALL_TEXTS, key=len)
# Eight texts from empty to long, in several languages, so that most rows of a batch are padded.
TEXTS = sorted(ALL_TEXTS, key=len)[:: len(ALL_TEXTS) // 8][:8]


@dataclass(frozen=True)
class Case:
    """One batch: its inputs, and what PyTorch answers."""

    name: str
    inputs: Tensors
    expected: Tensors

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Which tokens are real, ``[batch, sequence]``."""
        return self.inputs["attention_mask"].astype(bool)


def batches(tokenize: Tokenize) -> dict[str, Tensors]:
    """Return int64 inputs of batch 1, 3 and 8, padded on both sides, short and long."""
    one = tokenize(TEXTS[4:5], "right")
    return {
        "batch 1": one,
        "batch 3": tokenize(TEXTS[1:4], "right"),
        "batch 8, right padding": tokenize(TEXTS, "right"),
        "batch 8, left padding": tokenize(TEXTS, "left"),
        "length 1": {name: values[:, :1] for name, values in one.items()},
        "maximum length": tokenize([LONGEST], "right"),
    }


@lru_cache(maxsize=2)
def sentence_transformer(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """Return a checkpoint as sentence-transformers loads it, in float32."""
    return SentenceTransformer(
        str(checkpoint),
        device="cpu",
        trust_remote_code=trust_remote_code,
        model_kwargs={"torch_dtype": torch.float32},
    ).eval()


def sentence_features(model: SentenceTransformer, texts: Sequence[str], side: str) -> Tensors:
    """Return sentence-transformers' own tokens."""
    usual, model.tokenizer.padding_side = model.tokenizer.padding_side, side
    features = model.tokenize(list(texts))
    model.tokenizer.padding_side = usual
    return {name: value.numpy() for name, value in features.items() if torch.is_tensor(value)}


def sentence_outputs(model: SentenceTransformer, inputs: Tensors) -> Tensors:
    """Return what sentence-transformers computes, under the names of a graph's outputs."""
    names = {"token_embeddings": "last_hidden_state", "sentence_embedding": "sentence_embedding"}
    with torch.inference_mode():
        features = model({name: torch.from_numpy(value) for name, value in inputs.items()})
    return {ours: features[name].numpy() for name, ours in names.items() if name in features}


def cases_of(model: SentenceTransformer) -> tuple[Case, ...]:
    """Return every batch with what a ``SentenceTransformer`` answers."""
    made = batches(lambda texts, side: sentence_features(model, texts, side))
    return tuple(Case(name, made[name], sentence_outputs(model, made[name])) for name in made)


@cache
def sentence_cases(checkpoint: Path) -> tuple[Case, ...]:
    """Return every batch with what sentence-transformers answers for a checkpoint."""
    return cases_of(sentence_transformer(checkpoint))


@cache
def tagger_cases(checkpoint: Path) -> tuple[Case, ...]:
    """Return every batch with the logits of transformers' model."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForTokenClassification.from_pretrained(checkpoint).eval()

    def tokenize(texts: Sequence[str], side: str) -> Tensors:
        encoded = tokenizer(
            list(texts), padding=True, padding_side=side, truncation=True, return_tensors="np"
        )
        return dict(encoded)

    def logits(inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
            return {"logits": model(**tensors).logits.numpy()}

    made = batches(tokenize)
    return tuple(Case(name, made[name], logits(made[name])) for name in made)


@lru_cache(maxsize=4)
def session(path: Path) -> onnxruntime.InferenceSession:
    """Open a graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graph(path: Path, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensors:
    """Return a graph's outputs by name."""
    opened = session(path)
    feeds = {value.name: inputs[value.name] for value in opened.get_inputs()}
    names = [value.name for value in opened.get_outputs()]
    return dict(zip(names, opened.run(names, feeds), strict=True))


def largest_difference(path: Path, cases: Iterable[Case]) -> tuple[float, str]:
    """Return how far a graph is from PyTorch on real tokens, and the batch that shows it.

    Differences are relative to the largest value where that exceeds 1.
    """
    return max(
        (difference(case.expected[name], values, case.mask), f"{case.name}: {name}")
        for case in cases
        for name, values in _finite(path, case).items()
    )


def difference(
    expected: npt.NDArray[Any], actual: npt.NDArray[Any], mask: npt.NDArray[np.bool_]
) -> float:
    """Return the largest difference of one output, padding left out."""
    assert expected.shape == actual.shape
    wanted, got = _real(expected, mask), _real(actual, mask)
    return float(np.abs(wanted - got).max() / max(1.0, np.abs(wanted).max()))


def cosines(path: Path, cases: Iterable[Case], output: str) -> npt.NDArray[np.float64]:
    """Return the cosine to PyTorch of each vector of an output, padding left out."""
    pairs = [
        (_real(case.expected[output], case.mask), _real(_finite(path, case)[output], case.mask))
        for case in cases
    ]
    return np.concatenate([cosine(wanted, got) for wanted, got in pairs])


def cosine(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of two ``[rows, dim]`` arrays."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.asarray((left * right).sum(axis=-1) / lengths)


def from_portable(result: Converted, *precisions: str) -> dict[str, Path]:
    """Return the files that a conversion would make out of the portable graph."""
    path = result.folder / "onnx" / "model.onnx"
    portable = Artifact(path, "any").after(path, "export", {}, 0.0)
    arguments = ConversionArguments(model_id="", recipe="plain")
    made = {}
    for precision in precisions:
        folder = result.folder / "portable" / precision
        if not folder.exists():
            settings = quantize_settings(arguments, precision)
            quantize(portable, settings, folder)
        made[f"portable {precision}"] = folder / "model.onnx"
    return made


def _real(values: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    return values[mask] if values.ndim == 3 else values


def _finite(path: Path, case: Case) -> Tensors:
    outputs = run_graph(path, case.inputs)
    assert outputs.keys() == case.expected.keys()
    assert all(np.isfinite(values).all() for values in outputs.values()), f"{path}: {case.name}"
    return outputs
