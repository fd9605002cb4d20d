"""What 8 bits cost all-MiniLM-L6-v2, recipe by recipe, with the bar beside each figure.

Files are made by ``--recipes``, given as ``--files``, or both; beside them stands the peers'
default, ``quantize_dynamic`` with one scale for each weight. Everything is compared with the
portable fp32 graph, on texts that no recipe has seen:

* sentences of Tatoeba and paragraphs of XQuAD, in batches of eight of mixed lengths: the cosine of
  each text's and of each token's vector, and of a text alone with the same text in its batch
* XQuAD's English questions and paragraphs: nDCG@10, and the share of each question's ten best
  paragraphs that stay among the ten best
* size and speed, all sessions in turns; what the conversion took, in a process of its own

    python benchmarks/quantization.py --recipes plain,auto --exact
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from conversion import installed_model
from eight_bit_files import FP32, Files, GraphFile, add_eight_bit_options, make_files
from held_out import Material, Vectors, encode, held_out_texts
from measuring import in_each_arithmetic, sizes_and_speeds
from tables import Bar, Measure, by_name, machine, measures_table
from xquad import DATA, agreement, ndcg, read_retrieval

from retort.fidelity import row_cosines

QUALITY = (
    Measure("sentence cosine, mean", Bar(0.999), 5),
    Measure("sentence cosine, min", Bar(0.995), 5),
    Measure("token cosine, mean", Bar(0.998), 5),
    Measure("token cosine, min", Bar(0.97), 5),
    Measure("alone against in a batch, min", Bar(0.9999), 5),
    Measure("nDCG@10"),
    Measure("nDCG@10 lost", Bar(0.001, is_most=True)),
    Measure("nDCG@10 of 8-bit queries, fp32 documents"),
    Measure("nDCG@10 lost by them", Bar(0.001, is_most=True)),
    Measure("top-10 agreement", Bar(0.97)),
    Measure("top-10 agreement of 8-bit queries, fp32 documents"),
)
MOST_MEGABYTES, LEAST_SPEED, MOST_SECONDS = (
    Bar(24.5, is_most=True),
    Bar(1.0),
    Bar(360, is_most=True),
)
MOST_MODELS = 3  # of the fp32 model's size, in memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    options = _parser().parse_args(argv)
    texts = held_out_texts(options.data)
    with tempfile.TemporaryDirectory(prefix="quantization-") as name:
        files = make_files(options, Path(installed_model()), Path(name))
        retrieval = read_retrieval(options.data / "xquad" / "en")
        material = Material(files.folder, texts, retrieval)
        print(f"{machine()}; {len(texts)} held-out texts\n")
        print(quality(material, files, exact=options.exact), flush=True)
        speeds = sizes_and_speeds(
            files, options.rounds, most_megabytes=MOST_MEGABYTES, least_speed=LEAST_SPEED
        )
        print(f"\n{speeds}")
        print(costs(files))
    return 0


def quality(material: Material, files: Files, *, exact: bool) -> str:
    """Return a table of how close each file is to the fp32 graph."""
    print(f"measuring {FP32}", file=sys.stderr)
    expected = encode(material, files.original, exact=False)
    relevant = material.retrieval.relevant
    measure = partial(figures_of, material, expected)
    found = in_each_arithmetic(files.eight_bits, measure, exact=exact)
    scores = expected.queries @ expected.documents.T
    title = f"nDCG@10 of {FP32}: {ndcg(scores, relevant):.4f}"
    return f"{title}\n\n{measures_table(QUALITY, found)}"


def figures_of(
    material: Material, expected: Vectors, file: GraphFile, exact: bool
) -> dict[str, float]:
    """Return the figures of one file by the names of ``QUALITY``."""
    actual = encode(material, file, exact=exact)
    texts = row_cosines(expected.texts, actual.texts)
    tokens = row_cosines(expected.tokens, actual.tokens)
    relevant = material.retrieval.relevant
    wanted, both, queries = (
        left.queries @ right.documents.T
        for left, right in ((expected, expected), (actual, actual), (actual, expected))
    )
    gain, gain_both, gain_queries = (ndcg(scores, relevant) for scores in (wanted, both, queries))
    figures = (
        texts.mean(),
        texts.min(),
        tokens.mean(),
        tokens.min(),
        row_cosines(actual.alone, actual.texts).min(),
        gain_both,
        gain - gain_both,
        gain_queries,
        gain - gain_queries,
        agreement(wanted, both),
        agreement(wanted, queries),
    )
    return by_name(QUALITY, figures)


def costs(files: Files) -> str:
    """Return a table of what the conversions took, the first recipe's memory being the frame's."""
    made = {file.name: file.cost for file in files.eight_bits if file.cost is not None}
    if not made:
        return ""
    frame = next(iter(made))
    allowed = MOST_MODELS * files.original.megabytes * 1e6 / 2**20
    wall = Measure("wall s", MOST_SECONDS, 1)
    peak = Measure("peak MiB", None, 0)
    beyond = Measure(f"peak MiB beyond {frame}", Bar(round(allowed), is_most=True), 0)
    columns = {
        name: {
            wall.name: cost.wall,
            peak.name: cost.memory,
            beyond.name: cost.memory - made[frame].memory,
        }
        for name, cost in made.items()
    }
    return f"\n{measures_table([wall, peak, beyond], columns, 'conversion')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", nargs="?", type=Path, default=DATA,
        help="folder with tatoeba/*.eng and xquad/en (default: ../shared/data beside the "
        "repository)",
    )  # fmt: skip
    add_eight_bit_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
