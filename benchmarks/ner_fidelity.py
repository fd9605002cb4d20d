"""What 8 bits cost a tagger, recipe by recipe, in points of entity F1.

Two taggers on texts that they were not trained on:

* ``bus_ner``, the trained example, on 2,000 queries of its generator's held-out wording
* ``snips``: all-MiniLM-L6-v2 with a head for the 39 slots of SNIPS. The head and the upper half of
  the backbone learn from the training sentences, and are tried on those for validation and test;
  recipes are tried on the training sentences (``--calibration_dataset``), since of texts of any
  other kind the tags are a matter of chance

PyTorch, the portable fp32 graph and every 8-bit file run the same inputs, and the same code reads
their logits. One point is 0.01 of F1. Seeds are fixed.

    python benchmarks/ner_fidelity.py --recipes plain,auto --exact
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from eight_bit_files import (
    FP32,
    GraphFile,
    fidelity_parser,
    make_files,
)
from measuring import in_each_arithmetic, open_for_measuring, sizes_and_speeds
from slots import entity_f1_of_slots, fit, read_sentences, tag_sentences
from tables import Bar, Measure, machine, measures_table
from transformers import AutoModelForTokenClassification, AutoTokenizer, PretrainedConfig
from transformers.modeling_outputs import TokenClassifierOutput
from xquad import DATA

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "bus_ner"
sys.path.insert(0, str(EXAMPLE))

from generate import make_queries  # noqa: E402  # the example is not a package
from tagging import entity_f1, predict  # noqa: E402
from train import HELD_OUT_SEED  # noqa: E402

BUS_NER, SNIPS = TAGGERS = ("bus_ner", "snips")
QUERIES = 2000
F1 = Measure("entity F1, points", digits=2)
LOST = Measure("lost against fp32", Bar(0.1, is_most=True), 2)
PYTORCH = "PyTorch"
SHAPES = ((1, 16), (8, 32), (32, 32))

# Called with a model and its tokenizer; returns entity F1 from 0 to 1.
Score = Callable[[Any, Any], float]


class GraphTagger:
    """An ONNX graph in the place of a PyTorch model: called with the same, it returns the same.

    Args:
        file: The graph.
        config: The model's configuration.
        exact: Whether 8-bit products are kept from saturating.
    """

    def __init__(self, file: GraphFile, config: PretrainedConfig, *, exact: bool) -> None:
        self.config = config
        self._session = open_for_measuring(file.path, exact=exact)
        self._names = [value.name for value in self._session.get_inputs()]

    def __call__(self, **inputs: torch.Tensor) -> TokenClassifierOutput:
        """Return the logits of a batch."""
        feeds = {name: inputs[name].numpy() for name in self._names}
        return TokenClassifierOutput(
            logits=torch.from_numpy(self._session.run(["logits"], feeds)[0])
        )


@dataclass(frozen=True)
class Tagger:
    """A tagger to convert and to score.

    Attributes:
        name: What it is called.
        checkpoint: Where it lies.
        texts: What it is scored on, in words.
        score: What scores it.
        training: Texts like those it will meet, for the recipes to be tried on; none where those
            that ship will do.
    """

    name: str
    checkpoint: Path
    texts: str
    score: Score
    training: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.files and len(options.taggers) > 1:
        parser.error("--files are of one checkpoint: say which with --taggers")
    print(machine())
    for name in options.taggers:
        with tempfile.TemporaryDirectory(prefix="ner-") as scratch:
            kept = options.checkpoint or Path(scratch) / "snips-minilm"
            tagger = bus_ner() if name == BUS_NER else snips(options.snips, kept, options.steps)
            report(tagger, options, Path(scratch))
    return 0


def bus_ner() -> Tagger:
    """Return the trained example with its held-out queries."""
    queries = make_queries("held_out", QUERIES, HELD_OUT_SEED)
    texts = [query.text for query in queries]

    def score(model: Any, tokenizer: Any) -> float:
        return entity_f1(queries, predict(model, tokenizer, texts))

    return Tagger(BUS_NER, EXAMPLE, f"{len(queries)} held-out queries", score)


def snips(folder: Path, checkpoint: Path, steps: int) -> Tagger:
    """Return a MiniLM for the slots of SNIPS, trained now unless it is there."""
    training = read_sentences(folder / "train.conll")
    if not checkpoint.exists():
        fit(checkpoint, training, steps)
    sentences = [
        sentence
        for part in ("valid", "test")
        for sentence in read_sentences(folder / f"{part}.conll")
    ]

    def score(model: Any, tokenizer: Any) -> float:
        return entity_f1_of_slots(sentences, tag_sentences(model, tokenizer, sentences))

    texts = f"{len(sentences)} sentences for validation and test"
    return Tagger(
        SNIPS, checkpoint, texts, score, tuple(" ".join(sentence.words) for sentence in training)
    )


def report(tagger: Tagger, options: argparse.Namespace, scratch: Path) -> None:
    """Convert a tagger, and print what each file makes of its texts."""
    print(f"measuring {tagger.name}", file=sys.stderr)
    model = AutoModelForTokenClassification.from_pretrained(tagger.checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(tagger.checkpoint)
    files = make_files(options, tagger.checkpoint, scratch, dataset=_dataset(tagger, scratch))

    def points(file: GraphFile, exact: bool) -> float:
        return 100 * tagger.score(GraphTagger(file, model.config, exact=exact), tokenizer)

    original = 100 * tagger.score(model, tokenizer)
    portable = points(files.original, False)
    found = in_each_arithmetic(files.eight_bits, points, exact=options.exact)
    columns = {PYTORCH: {F1.name: original}, FP32: {F1.name: portable}}
    columns |= {
        name: {F1.name: figure, LOST.name: portable - figure} for name, figure in found.items()
    }
    print(f"\n{tagger.name}, {tagger.texts}:\n\n{measures_table([F1, LOST], columns)}", flush=True)
    print(f"\n{sizes_and_speeds(files, options.rounds, shapes=SHAPES)}", flush=True)


def _dataset(tagger: Tagger, scratch: Path) -> Path | None:
    """Return a file of the tagger's own texts, if it has any."""
    if not tagger.training:
        return None
    path = scratch / "training.txt"
    path.write_text("\n".join(tagger.training), encoding="utf-8")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = fidelity_parser(__doc__)
    parser.add_argument(
        "snips", nargs="?", type=Path, default=DATA / "slots_snips",
        help="folder of SNIPS with train.conll, valid.conll and test.conll, a word and its tag "
        "on each line (default: ../shared/data/slots_snips beside the repository)",
    )  # fmt: skip
    parser.add_argument("--taggers", nargs="+", choices=TAGGERS, default=TAGGERS)
    parser.add_argument("--steps", type=int, default=800, help="batches snips learns from (800)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
