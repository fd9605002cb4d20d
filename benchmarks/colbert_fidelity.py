"""What 8 bits cost a ColBERT model on real weights, beside pylate-onnx-export's recipe.

No small ColBERT is at hand, so PyLate saves one: all-MiniLM-L6-v2, an orthonormal Dense from 384
to 128 dimensions, and its prefix tokens, all drawn with ``--seed``. It is converted as always, and
the portable graph is quantized once more as pylate-onnx-export does: ``quantize_dynamic`` with
QInt8, one scale for each weight. Every file then encodes the English questions of XQuAD as queries
and its paragraphs as documents, and is compared with the portable fp32 graph:

* the cosine of each token embedding that PyLate would return, its mean and its minimum
* the share of a query's ten best documents by MaxSim that stay among the ten best, where queries
  and documents both come from that file

Queries count twice: as they are, which is how pylate-onnx-export sets its checkpoints, and filled
up with mask tokens to 32, as PyLate does by default. Nobody trained this model to use those.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pylate
import torch
from conversion import installed_model
from onnxruntime.quantization import QuantType, quantize_dynamic
from pylate.models import ColBERT, Dense
from sentence_transformers.models import Transformer

import convert
from retort.arguments import ConversionArguments
from retort.fidelity import row_cosines
from retort.graphs.session import open_session
from retort.graphs.timing import fastest_seconds, speed_against
from retort.runtime import LateInteractionModel, load
from retort.runtime.maxsim import maxsim

Embeddings = list[npt.NDArray[np.float32]]

XQUAD = Path(__file__).resolve().parent.parent / ".." / "shared" / "data" / "xquad"
WIDTH, PROJECTED = 384, 128
BEST = 10
SHAPES = ((1, 32), (8, 128), (32, 128))
VOCABULARY = 30_000
SETTINGS = "config_sentence_transformers.json"
PORTABLE, PER_TENSOR = "onnx/model.onnx", "onnx/per_tensor.onnx"
RETORT_8_BIT = "onnx/model_quantized.onnx"
FP32 = (PORTABLE, "onnx/model_opt1.onnx")
FILES = (*FP32, RETORT_8_BIT, PER_TENSOR)
LEAST_MEAN, LEAST_MINIMUM, LEAST_AGREEMENT = 0.985, 0.88, 0.88


@dataclass(frozen=True)
class Texts:
    """What is encoded."""

    queries: list[str]
    documents: list[str]


@dataclass(frozen=True)
class Encoded:
    """The token embeddings of all texts, a ``[tokens, dim]`` array for each.

    Attributes:
        queries: Those of the queries: as they are under False, expanded under True.
        documents: Those of the documents.
    """

    queries: Mapping[bool, Embeddings]
    documents: Embeddings


@dataclass(frozen=True)
class Fidelity:
    """How close a file is to the portable fp32 graph.

    Attributes:
        mean: The mean cosine of token embeddings.
        minimum: The lowest of them.
        agreement: The share of the ten best documents that stay among the ten best.
    """

    mean: float
    minimum: float
    agreement: float

    @property
    def suffices(self) -> bool:
        """Whether all three reach the bar."""
        cosines = self.mean >= LEAST_MEAN and self.minimum >= LEAST_MINIMUM
        return cosines and self.agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        return f"{self.mean:.4f} | {self.minimum:.4f} | {self.agreement:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    options = _parser().parse_args(argv)
    texts = Texts(
        read_texts(options.xquad / "en" / "queries.jsonl"),
        read_texts(options.xquad / "en" / "corpus.jsonl"),
    )
    with tempfile.TemporaryDirectory(prefix="colbert-") as scratch:
        checkpoint = save_checkpoint(Path(scratch) / "colbert-minilm", options.seed)
        folder = make_files(checkpoint, Path(scratch) / "converted")
        sizes = {file: (folder / file).stat().st_size for file in FILES}
        speeds = measure_speeds(folder, options.rounds)
        encoded = {file: encode(folder, file, texts) for file in FILES}
        original = encode_with_pylate(checkpoint, texts)
    for file in FP32:
        distance = largest_difference(original, encoded[file])
        print(f"{file}: differs from PyLate {pylate.__version__} by at most {distance:.1e}")
    print(table(encoded, sizes, speeds))
    return 0


def read_texts(path: Path) -> list[str]:
    """Return the ``text`` of each line of a ``.jsonl``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def save_checkpoint(folder: Path, seed: int) -> Path:
    """Write the ColBERT checkpoint with PyLate, which draws the word vectors of its prefixes."""
    torch.manual_seed(seed)
    projection = Dense(WIDTH, PROJECTED, bias=False)
    torch.nn.init.orthogonal_(projection.linear.weight)
    model = ColBERT(modules=[Transformer(installed_model()), projection], device="cpu")
    model.save(str(folder), create_model_card=False)
    return folder


def make_files(checkpoint: Path, output: Path) -> Path:
    """Convert the checkpoint, add the per-tensor file, and return the folder."""
    arguments = ConversionArguments(
        model_id=str(checkpoint), output_dir=str(output), quantize=["QInt8"], skip_validation=True
    )
    folder = convert.convert(arguments).plan.target
    quantize_dynamic(folder / PORTABLE, folder / PER_TENSOR, weight_type=QuantType.QInt8)
    return folder


def measure_speeds(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return how many times faster than the portable graph each file is, by shape."""
    print("timing", file=sys.stderr)
    sessions = {file: open_session(folder / file) for file in FILES}
    seconds = fastest_seconds(sessions, VOCABULARY, shapes=SHAPES, rounds=rounds)
    return {file: speed_against(seconds[PORTABLE], seconds[file]) for file in FILES}


def encode(folder: Path, file: str, texts: Texts) -> Encoded:
    """Return what a file makes of all texts, by Retort's runtime."""
    print(f"encoding with {file}", file=sys.stderr)
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    queries = {}
    for expands in (False, True):
        changed = json.dumps({**settings, "do_query_expansion": expands})
        (folder / SETTINGS).write_text(changed, encoding="utf-8")
        model = load(folder, file)
        assert isinstance(model, LateInteractionModel)
        queries[expands] = model.encode_queries(texts.queries)
    return Encoded(queries, model.encode_documents(texts.documents))


def encode_with_pylate(checkpoint: Path, texts: Texts) -> Encoded:
    """Return what PyLate itself makes of all texts."""
    print("encoding with PyLate", file=sys.stderr)
    queries = {}
    for expands in (False, True):
        model = ColBERT(str(checkpoint), device="cpu", do_query_expansion=expands)
        queries[expands] = model.encode(texts.queries, is_query=True)
    return Encoded(queries, model.encode(texts.documents, is_query=False))


def largest_difference(expected: Encoded, actual: Encoded) -> float:
    """Return the largest difference between any two numbers of all token embeddings."""
    pairs = [(expected.queries[key], actual.queries[key]) for key in (False, True)]
    return max(
        float(np.abs(np.concatenate(left) - np.concatenate(right)).max())
        for left, right in [*pairs, (expected.documents, actual.documents)]
    )


def fidelity(expected: Encoded, actual: Encoded, *, expands: bool) -> Fidelity:
    """Return how close one encoding is to another, with the queries expanded or not."""
    wanted = [*expected.queries[expands], *expected.documents]
    got = [*actual.queries[expands], *actual.documents]
    cosines = row_cosines(np.concatenate(wanted), np.concatenate(got))
    best, found = best_documents(expected, expands), best_documents(actual, expands)
    shared = [len(left & right) / BEST for left, right in zip(best, found, strict=True)]
    return Fidelity(float(cosines.mean()), float(cosines.min()), float(np.mean(shared)))


def best_documents(encoded: Encoded, expands: bool) -> list[set[int]]:
    """Return the ten best documents of each query by MaxSim."""
    order = np.argsort(-maxsim(encoded.queries[expands], encoded.documents), kind="stable")
    return [set(row[:BEST].tolist()) for row in order]


def table(
    encoded: Mapping[str, Encoded],
    sizes: Mapping[str, int],
    speeds: Mapping[str, Sequence[float]],
) -> str:
    """Return the figures as a Markdown table, and whether Retort's 8-bit file meets the bar."""
    shapes = " | ".join(f"speed {batch}×{length}" for batch, length in SHAPES)
    texts = encoded[PORTABLE]
    counts = f"{len(texts.queries[False])} queries and {len(texts.documents)} documents"
    lines = [
        f"{counts} of XQuAD English; ONNX Runtime {onnxruntime.__version__}",
        "",
        f"| file | MB | mean | min | top-{BEST} | expanded: mean | min | top-{BEST} | {shapes} |",
        f"|---|{'---|' * (7 + len(SHAPES))}",
    ]
    bars = {}
    for file in FILES:
        plain, filled = (
            fidelity(texts, encoded[file], expands=expands) for expands in (False, True)
        )
        speed = " | ".join(f"{value:.2f}" for value in speeds[file])
        name = Path(file).name
        lines.append(f"| `{name}` | {sizes[file] / 1e6:.1f} | {plain} | {filled} | {speed} |")
        bars[file] = [("met" if row.suffices else "missed") for row in (plain, filled)]
    plainly, expanded = bars[RETORT_8_BIT]
    bar = f"mean {LEAST_MEAN}, min {LEAST_MINIMUM}, top-{BEST} {LEAST_AGREEMENT}"
    said = f"Bar for {Path(RETORT_8_BIT).name}: {bar}: {plainly}; with expanded queries: {expanded}"
    return "\n".join([*lines, "", said])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "xquad",
        nargs="?",
        type=Path,
        default=XQUAD,
        help="folder of XQuAD with en/queries.jsonl and en/corpus.jsonl, the text under 'text' "
        "(default: ../shared/data/xquad beside the repository)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the Dense and the prefixes (0)")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of timing (8)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
