"""What 8 bits cost a ColBERT model on real weights, recipe by recipe.

No small ColBERT is at hand, so PyLate saves one: all-MiniLM-L6-v2, an orthonormal Dense from 384
to 128 dimensions, and its prefix tokens, all drawn with ``--seed``. It is converted with each of
``--recipes``, and the portable graph is quantized once more as pylate-onnx-export does:
``quantize_dynamic`` with QInt8, one scale for each weight. Every file then encodes the English
questions of XQuAD as queries and its paragraphs as documents, and is compared with the portable
fp32 graph:

* the cosine of each token embedding that PyLate would return, its mean and its minimum
* the share of a query's ten best documents by MaxSim that stay among the ten best, where queries
  and documents both come from that file

Queries count twice: as they are, which is how pylate-onnx-export sets its checkpoints, and filled
up with mask tokens to 32, as PyLate does by default. Nobody trained this model to use those. The
bars are for queries as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pylate
import torch
from conversion import installed_model
from eight_bit_files import (
    OPTIMIZED,
    PORTABLE,
    GraphFile,
    fidelity_parser,
    make_files,
)
from measuring import in_each_arithmetic, open_graph, sizes_and_speeds
from pylate.models import ColBERT, Dense
from sentence_transformers.models import Transformer
from tables import Bar, Measure, by_name, machine, measures_table
from xquad import Floats, add_xquad, agreement, read_texts

from retort.fidelity import row_cosines
from retort.runtime.folder import Folder
from retort.runtime.late_interaction import LateInteractionModel
from retort.runtime.maxsim import maxsim

Embeddings = list[npt.NDArray[np.float32]]

WIDTH, PROJECTED = 384, 128
SETTINGS = "config_sentence_transformers.json"
AS_THEY_ARE = (
    Measure("token cosine, mean", Bar(0.998)),
    Measure("token cosine, min", Bar(0.97)),
    Measure("MaxSim top-10 agreement", Bar(0.96)),
)
EXPANDED = tuple(Measure(f"expanded: {measure.name}") for measure in AS_THEY_ARE)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    options = _parser().parse_args(argv)
    folder = options.xquad / "en"
    texts = Texts(read_texts(folder / "queries.jsonl"), read_texts(folder / "corpus.jsonl"))
    with tempfile.TemporaryDirectory(prefix="colbert-") as name:
        scratch = Path(name)
        checkpoint = options.checkpoint or scratch / "colbert-minilm"
        if not checkpoint.exists():
            save_checkpoint(checkpoint, options.seed)
        files = make_files(options, checkpoint, scratch)
        expected = encode(files.folder, texts, files.original, exact=False)
        print(f"{machine()}; {len(texts.queries)} queries, {len(texts.documents)} documents")
        print(f"{compare_with_pylate(checkpoint, files.folder, texts, expected)}\n", flush=True)
        measure = partial(figures_of, files.folder, texts, expected)
        found = in_each_arithmetic(files.eight_bits, measure, exact=options.exact)
        print(measures_table([*AS_THEY_ARE, *EXPANDED], found), flush=True)
        print(f"\n{sizes_and_speeds(files, options.rounds)}")
    return 0


def save_checkpoint(folder: Path, seed: int) -> None:
    """Write the ColBERT checkpoint with PyLate, which draws the word vectors of its prefixes."""
    torch.manual_seed(seed)
    projection = Dense(WIDTH, PROJECTED, bias=False)
    torch.nn.init.orthogonal_(projection.linear.weight)
    model = ColBERT(modules=[Transformer(installed_model()), projection], device="cpu")
    model.save(str(folder), create_model_card=False)


def encode(folder: Path, texts: Texts, file: GraphFile, *, exact: bool) -> Encoded:
    """Return what a file makes of all texts, by Retort's runtime with the folder's settings."""
    graph = open_graph(file.path, exact=exact)
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    queries = {}
    for expands in (False, True):
        changed = json.dumps({**settings, "do_query_expansion": expands})
        (folder / SETTINGS).write_text(changed, encoding="utf-8")
        model = LateInteractionModel(Folder(folder), graph)
        queries[expands] = model.encode_queries(texts.queries)
    return Encoded(queries, model.encode_documents(texts.documents))


def compare_with_pylate(checkpoint: Path, folder: Path, texts: Texts, portable: Encoded) -> str:
    """Return how far the fp32 files are from PyLate itself, as a line of text."""
    print("encoding with PyLate", file=sys.stderr)
    original = encode_with_pylate(checkpoint, texts)
    optimized = encode(folder, texts, GraphFile(OPTIMIZED, folder / OPTIMIZED), exact=False)
    differences = [
        f"{Path(name).name} by at most {largest_difference(original, encoded):.1e}"
        for name, encoded in ((PORTABLE, portable), (OPTIMIZED, optimized))
    ]
    return f"From PyLate {pylate.__version__} differ {' and '.join(differences)}"


def encode_with_pylate(checkpoint: Path, texts: Texts) -> Encoded:
    """Return what PyLate itself makes of all texts."""
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


def figures_of(
    folder: Path, texts: Texts, expected: Encoded, file: GraphFile, exact: bool
) -> dict[str, float]:
    """Return the figures of one file by the names of the measures."""
    actual = encode(folder, texts, file, exact=exact)
    figures = {}
    for measures, expands in ((AS_THEY_ARE, False), (EXPANDED, True)):
        found = fidelity(expected, actual, expands=expands)
        figures |= by_name(measures, found)
    return figures


def fidelity(expected: Encoded, actual: Encoded, *, expands: bool) -> tuple[float, float, float]:
    """Return mean and minimum cosine and the agreement, with the queries expanded or not."""
    wanted = [*expected.queries[expands], *expected.documents]
    got = [*actual.queries[expands], *actual.documents]
    cosines = row_cosines(np.concatenate(wanted), np.concatenate(got))
    kept = agreement(scores(expected, expands), scores(actual, expands))
    return float(cosines.mean()), float(cosines.min()), kept


def scores(encoded: Encoded, expands: bool) -> Floats:
    """Return MaxSim of every query with every document, ``[queries, documents]``."""
    return maxsim(encoded.queries[expands], encoded.documents)


def _parser() -> argparse.ArgumentParser:
    parser = fidelity_parser(__doc__)
    add_xquad(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the Dense and the prefixes (0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
