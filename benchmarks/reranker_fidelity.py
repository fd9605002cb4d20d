"""What 8 and 16 bits cost a reranker on real weights: its scores, and the order of its lists.

No small reranker is at hand, so one is made: all-MiniLM-L6-v2 with a head of one label. The head
and the upper half of the backbone learn from the English questions of XQuAD which of four
paragraphs answers each. It is converted as always; then every file scores lists of 20 paragraphs
for questions of articles that were held out: the one that answers, four of its article, 15 of
other articles.

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
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from conversion import installed_model
from sentence_transformers import CrossEncoder

import convert
from retort.arguments import ConversionArguments
from retort.graphs.session import open_session
from retort.graphs.timing import fastest_seconds, speed_against
from retort.runtime import CrossEncoderModel, load
from retort.runtime.activations import sigmoid

XQUAD = Path(__file__).resolve().parents[2] / "shared" / "data" / "xquad"
HELD_OUT = 4  # every fourth article
LIST_LENGTH, OF_ONE_ARTICLE, FIRST = 20, 4, 5
QUESTIONS_IN_A_BATCH, CHOICES = 4, 4
LENGTH = 128
TRAINED_LAYERS = ("layer.3.", "layer.4.", "layer.5.", "pooler", "classifier")
LEARNING_RATE = 2e-4
SHAPES = ((1, 128), (20, 128))
VOCABULARY = 30_000

Floats = npt.NDArray[np.float32]


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
        report(checkpoint, Path(scratch) / "converted", lists, options.rounds)
    return 0


def read(folder: Path) -> tuple[Collection, Collection]:
    """Return the articles to learn from, and those held out."""
    paragraphs = {row["_id"]: (row["title"], row["text"]) for row in _rows(folder / "corpus.jsonl")}
    questions = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    table = (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    answers = [line.split("\t")[:2] for line in table]
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
    for name, weights in network.named_parameters():
        weights.requires_grad_(any(part in name for part in TRAINED_LAYERS))
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    drawn = random.Random(0)
    questions: list[Question] = []
    labels = torch.eye(CHOICES)[0].repeat(QUESTIONS_IN_A_BATCH)
    for step in range(steps):
        if len(questions) < QUESTIONS_IN_A_BATCH:
            questions = collection.draw(CHOICES, 1, drawn)
            drawn.shuffle(questions)
        pairs = [pair for _ in range(QUESTIONS_IN_A_BATCH) for pair in questions.pop().pairs]
        inputs = model.tokenizer(pairs, padding=True, truncation=True, return_tensors="pt")
        logits = network(**inputs).logits[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    model.eval().save_pretrained(str(folder))


def report(checkpoint: Path, output: Path, lists: Sequence[Question], rounds: int) -> None:
    """Convert the checkpoint, and print what each file makes of the lists."""
    arguments = ConversionArguments(
        model_id=str(checkpoint),
        quantize=["QInt8", "QUInt8", "Float16"],
        output_dir=str(output),
        skip_validation=True,
    )
    plan = convert.convert(arguments).plan
    files = list(plan.files.values())
    speeds = measure_speeds(plan.target, files, rounds)
    pairs = [pair for question in lists for pair in question.pairs]
    print("scoring with CrossEncoder", file=sys.stderr)
    original = CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Identity())
    expected = original.predict(pairs, show_progress_bar=False).reshape(-1, LIST_LENGTH)
    shapes = " | ".join(f"speed {batch}×{length}" for batch, length in SHAPES)
    names = (
        "file", "MB", "Pearson of logits", "of scores", "largest difference", "first kept",
        f"first {FIRST} kept", "pairs in order", "whole lists", "right first",
    )  # fmt: skip
    spread = f"logits {expected.min():.1f} to {expected.max():.1f}, deviation {expected.std():.2f}"
    print(f"{len(lists)} lists of {LIST_LENGTH}; CrossEncoder: {spread}")
    print(f"right first with CrossEncoder: {_right_first(expected):.3f}\n")
    print(f"| {' | '.join(names)} | {shapes} |\n|{'---|' * (len(names) + len(SHAPES))}")
    for file in files:
        print(f"scoring with {file}", file=sys.stderr)
        model = load(plan.target, file)
        assert isinstance(model, CrossEncoderModel)
        actual = model.predict(pairs, activation="identity").reshape(-1, LIST_LENGTH)
        size = (plan.target / file).stat().st_size / 1e6
        speed = " | ".join(f"{value:.2f}" for value in speeds[file])
        print(f"| `{file}` | {size:.1f} | {figures(expected, actual)} | {speed} |", flush=True)


def figures(expected: Floats, actual: Floats) -> str:
    """Return the cells of one file, from logits ``[lists, LIST_LENGTH]``."""
    wanted, got = (np.argsort(-scores, axis=1, kind="stable") for scores in (expected, actual))
    rows, columns = np.triu_indices(LIST_LENGTH, 1)
    before = [np.sign(scores[:, rows] - scores[:, columns]) for scores in (expected, actual)]
    shares = (
        wanted[:, 0] == got[:, 0],
        (np.sort(wanted[:, :FIRST]) == np.sort(got[:, :FIRST])).all(axis=1),
        before[0] == before[1],
        (wanted == got).all(axis=1),
    )
    cells = [f"{_pearson(expected, actual):.5f}"]
    cells.append(f"{_pearson(sigmoid(expected), sigmoid(actual)):.5f}")
    cells.append(f"{np.abs(expected - actual).max():.1e}")
    cells += [f"{share.mean():.3f}" for share in shares]
    return " | ".join([*cells, f"{_right_first(actual):.3f}"])


def measure_speeds(folder: Path, files: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Return how many times faster than the portable graph each file is, by shape."""
    print("timing", file=sys.stderr)
    sessions = {file: open_session(folder / file) for file in files}
    seconds = fastest_seconds(sessions, VOCABULARY, shapes=SHAPES, rounds=rounds)
    return {file: speed_against(seconds[files[0]], seconds[file]) for file in files}


def _pearson(left: Floats, right: Floats) -> float:
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


def _right_first(scores: Floats) -> float:
    return float((scores.argmax(axis=1) == 0).mean())


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "xquad",
        nargs="?",
        type=Path,
        default=XQUAD,
        help="folder of XQuAD with en/corpus.jsonl, en/queries.jsonl and en/qrels/test.tsv "
        "(default: ../shared/data/xquad beside the repository)",
    )
    parser.add_argument("--steps", type=int, default=100, help="batches to learn from (100)")
    parser.add_argument("--lists", type=int, default=100, help="lists to score (100)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of timing (5)")
    parser.add_argument(
        "--checkpoint", type=Path, help="where to keep the model, or one kept there"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
