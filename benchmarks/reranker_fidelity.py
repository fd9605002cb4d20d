"""What 8 and 16 bits cost a reranker on real weights: its scores, and the order of its lists.

No small reranker is at hand, so one is made: all-MiniLM-L6-v2 with a head of one label. The head
and the upper half of the backbone learn from the English questions of XQuAD which of four
paragraphs answers each. It is converted to 16 bits, to weights alone of 8 bits (Q8), and to 8 bits
with each of ``--recipes``; then every file scores lists of 20 paragraphs for questions of articles
that were held out: the one that answers, four of its article, 15 of other articles.

Printed are, against sentence-transformers' CrossEncoder on the untouched checkpoint:

* Pearson's correlation of all scores, as logits and after the sigmoid, and the largest difference
* first kept: the share of lists with the same paragraph in the first place
* first five kept: the share of lists with the same five paragraphs first, in any order
* pairs in order: the share of pairs of paragraphs, both of one list, that stand in the same order
* whole lists: the share of lists of which all 20 stand in the same order
* right first: the share of lists with the answer in the first place, beside CrossEncoder's own

Seeds are fixed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from conversion import installed_model
from eight_bit_files import GraphFile, fidelity_parser, make_files
from measuring import in_each_arithmetic, open_graph, sizes_and_speeds
from sentence_transformers import CrossEncoder
from tables import Measure, by_name, machine, measures_table
from training import freeze_all_but, train
from xquad import Floats, add_xquad, read_answers, read_rows

from retort.runtime.activations import sigmoid
from retort.runtime.cross_encoder import CrossEncoderModel
from retort.runtime.folder import Folder

HELD_OUT = 4  # every fourth article
LIST_LENGTH, OF_ONE_ARTICLE, FIRST = 20, 4, 5
QUESTIONS_IN_A_BATCH, CHOICES = 4, 4
LENGTH = 128
TRAINED_LAYERS = ("layer.3.", "layer.4.", "layer.5.", "pooler", "classifier")
LEARNING_RATE = 2e-4
SHAPES = ((1, 128), (20, 128))
CROSS_ENCODER = "CrossEncoder"
RIGHT_FIRST = Measure("right first", digits=3)
MEASURES = (
    Measure("Pearson of logits", digits=5),
    Measure("Pearson of scores", digits=5),
    Measure("largest difference", digits=6),
    Measure("first kept", digits=3),
    Measure(f"first {FIRST} kept", digits=3),
    Measure("pairs in order", digits=3),
    Measure("whole lists", digits=3),
    RIGHT_FIRST,
)


@dataclass(frozen=True)
class Question:
    """A question with paragraphs to choose from, the one that answers it being the first.

    Attributes:
        text: The question.
        paragraphs: The paragraphs.
    """

    text: str
    paragraphs: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The question beside each paragraph."""
        return [(self.text, paragraph) for paragraph in self.paragraphs]


@dataclass(frozen=True)
class Collection:
    """The questions and paragraphs of some articles."""

    questions: list[tuple[str, str]]
    paragraphs: dict[str, tuple[str, str]]

    def draw(self, count: int, of_article: int, drawn: random.Random) -> list[Question]:
        """Return every question with ``count`` paragraphs, ``of_article`` of them nearly right."""
        found = []
        for text, answer in self.questions:
            article = self.paragraphs[answer][0]
            near, far = [], []
            for key, (other, paragraph) in self.paragraphs.items():
                if key != answer:
                    (near if other == article else far).append(paragraph)
            others = drawn.sample(near, of_article) + drawn.sample(far, count - of_article - 1)
            found.append(Question(text, (self.paragraphs[answer][1], *others)))
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    options = _parser().parse_args(argv)
    learned, held_out = read(options.xquad / "en")
    lists = held_out.draw(LIST_LENGTH, OF_ONE_ARTICLE, random.Random(0))
    lists = random.Random(0).sample(lists, options.lists)
    with tempfile.TemporaryDirectory(prefix="reranker-") as scratch:
        checkpoint = options.checkpoint or Path(scratch) / "reranker-minilm"
        if not checkpoint.exists():
            fit(checkpoint, learned, options.steps)
        report(checkpoint, Path(scratch), lists, options)
    return 0


def read(folder: Path) -> tuple[Collection, Collection]:
    """Return the articles to learn from, and those held out."""
    paragraphs = {
        row["_id"]: (row["title"], row["text"]) for row in read_rows(folder / "corpus.jsonl")
    }
    questions = {row["_id"]: row["text"] for row in read_rows(folder / "queries.jsonl")}
    answers = read_answers(folder)
    titles = list(dict.fromkeys(title for title, _ in paragraphs.values()))
    collections = []
    for chosen in (set(titles) - set(titles[::HELD_OUT]), set(titles[::HELD_OUT])):
        own = {key: found for key, found in paragraphs.items() if found[0] in chosen}
        collections.append(
            Collection([(questions[query], key) for query, key in answers if key in own], own)
        )
    return collections[0], collections[1]


def fit(folder: Path, collection: Collection, steps: int) -> None:
    """Fit a head and the upper layers to tell the paragraph that answers, and save the model."""
    torch.manual_seed(0)
    model = CrossEncoder(installed_model(), num_labels=1, max_length=LENGTH, device="cpu")
    network = model.model.train()
    freeze_all_but(network, TRAINED_LAYERS)
    drawn = random.Random(0)
    questions: list[Question] = []
    labels = torch.eye(CHOICES)[0].repeat(QUESTIONS_IN_A_BATCH)

    def loss() -> torch.Tensor:
        if len(questions) < QUESTIONS_IN_A_BATCH:
            questions[:] = collection.draw(CHOICES, 1, drawn)
            drawn.shuffle(questions)
        pairs = [pair for _ in range(QUESTIONS_IN_A_BATCH) for pair in questions.pop().pairs]
        inputs = model.tokenizer(pairs, padding=True, truncation=True, return_tensors="pt")
        logits = network(**inputs).logits[:, 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)

    train(network, loss, steps, LEARNING_RATE)
    model.save_pretrained(str(folder))


def report(
    checkpoint: Path, scratch: Path, lists: Sequence[Question], options: argparse.Namespace
) -> None:
    """Convert the checkpoint, and print what each file makes of the lists."""
    files = make_files(options, checkpoint, scratch, beside=["Float16", "Q8"])
    pairs = [pair for question in lists for pair in question.pairs]
    print(f"scoring with {CROSS_ENCODER}", file=sys.stderr)
    original = CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Identity())
    expected = original.predict(pairs, show_progress_bar=False).reshape(-1, LIST_LENGTH)

    def figures(file: GraphFile, exact: bool) -> dict[str, float]:
        model = CrossEncoderModel(Folder(files.folder), open_graph(file.path, exact=exact))
        actual = model.predict(pairs, activation="identity").reshape(-1, LIST_LENGTH)
        return compare(expected, actual)

    found = {CROSS_ENCODER: {RIGHT_FIRST.name: _right_first(expected)}}
    found |= in_each_arithmetic([files.original, *files.others], figures, exact=False)
    found |= in_each_arithmetic(files.eight_bits, figures, exact=options.exact)
    spread = f"logits {expected.min():.1f} to {expected.max():.1f}, deviation {expected.std():.2f}"
    print(f"{machine()}; {len(lists)} lists of {LIST_LENGTH}; {CROSS_ENCODER}: {spread}\n")
    print(f"{measures_table(MEASURES, found)}\n", flush=True)
    print(sizes_and_speeds(files, options.rounds, shapes=SHAPES, beside=files.others))


def compare(expected: Floats, actual: Floats) -> dict[str, float]:
    """Return the figures of logits ``[lists, LIST_LENGTH]`` by the names of ``MEASURES``."""
    wanted, got = (np.argsort(-scores, axis=1, kind="stable") for scores in (expected, actual))
    rows, columns = np.triu_indices(LIST_LENGTH, 1)
    before = [np.sign(scores[:, rows] - scores[:, columns]) for scores in (expected, actual)]
    figures = (
        _pearson(expected, actual),
        _pearson(sigmoid(expected), sigmoid(actual)),
        np.abs(expected - actual).max(),
        (wanted[:, 0] == got[:, 0]).mean(),
        (np.sort(wanted[:, :FIRST]) == np.sort(got[:, :FIRST])).all(axis=1).mean(),
        (before[0] == before[1]).mean(),
        (wanted == got).all(axis=1).mean(),
        _right_first(actual),
    )
    return by_name(MEASURES, figures)


def _pearson(left: Floats, right: Floats) -> float:
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


def _right_first(scores: Floats) -> float:
    return float((scores.argmax(axis=1) == 0).mean())


def _parser() -> argparse.ArgumentParser:
    parser = fidelity_parser(__doc__)
    add_xquad(parser)
    parser.add_argument("--steps", type=int, default=100, help="batches to learn from (100)")
    parser.add_argument("--lists", type=int, default=100, help="lists to score (100)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
