"""What 8 and 16 bits cost a SPLADE model on real weights, recipe by recipe.

No small SPLADE is at hand, so one is made: all-MiniLM-L6-v2 as it is, and on it a masked-LM head
fitted to some texts. The head learns to name the tokens, a third of them masked, from what the
backbone says of them; the FLOPS regulariser (Formal, Piwowarski and Clinchant 2021) keeps it from
naming many others. It is converted to 16 bits, and to 8 bits with each of ``--recipes``, and texts
that the head has not seen are encoded by every file, each alone, and compared with
sentence-transformers' SparseEncoder. Seeds are fixed.

    python benchmarks/splade_fidelity.py corpus.jsonl queries.jsonl
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversion import installed_model
from eight_bit_files import GraphFile, fidelity_parser, make_files
from measuring import in_each_arithmetic, open_for_measuring, sizes_and_speeds
from tables import Measure, by_name, machine, measures_table
from torch import Tensor
from training import freeze_all_but, train
from transformers import AutoTokenizer, BertForMaskedLM
from xquad import Floats, read_texts

import convert
from retort.arguments import ConversionArguments
from retort.fidelity import row_cosines
from retort.references.sparse import SparseReference

TRAINED_LAYERS = ("cls.",)
MASKED = 0.3
BATCH, LENGTH = 8, 48
FIRST_BIAS = -4.0  # most terms are in no text
LEARNING_RATE = 5e-3
FLOPS_WEIGHT = 3e-3
HELD_OUT = 5  # every fifth text
FAMILY, OUTPUT = "splade", "sparse_vector"
MEASURES = (
    Measure("cosine of sparse vectors, mean"),
    Measure("cosine of sparse vectors, min"),
    Measure("largest difference", digits=6),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = fidelity_parser(__doc__)
    parser.add_argument("texts", nargs="+", type=Path, help="text on each line, or .jsonl")
    parser.add_argument("--steps", type=int, default=300, help="batches that the head is fitted to")
    options = parser.parse_args(argv)
    texts = [text for path in options.texts for text in read_texts(path)]
    random.Random(0).shuffle(texts)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.checkpoint or Path(scratch) / "splade-minilm"
        if not folder.exists():
            fit(folder, [t for i, t in enumerate(texts) if i % HELD_OUT], options.steps)
        report(folder, Path(scratch), texts[::HELD_OUT], options)
    return 0


def fit(folder: Path, texts: Sequence[str], steps: int) -> None:
    """Fit a masked-LM head on the frozen backbone, and save both."""
    torch.manual_seed(0)
    source = installed_model()
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = BertForMaskedLM.from_pretrained(source)
    freeze_all_but(model, TRAINED_LAYERS)
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)  # the head's too
    torch.nn.init.constant_(model.cls.predictions.bias, FIRST_BIAS)
    drawn = random.Random(0)

    def loss() -> Tensor:
        batch = tokenizer(
            drawn.choices(texts, k=BATCH),
            padding=True, truncation=True, max_length=LENGTH, return_tensors="pt",
        )  # fmt: skip
        return objective(model, batch, tokenizer.mask_token_id)

    train(model, loss, steps, LEARNING_RATE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def objective(model: BertForMaskedLM, batch: Any, mask_id: int) -> Tensor:
    """Return the cross-entropy of the real tokens, plus the FLOPS of the texts' sparse vectors."""
    labels, real = batch["input_ids"], batch["attention_mask"].bool()
    hidden_ids = labels.where(torch.rand(labels.shape) > MASKED, mask_id)
    inputs = {**batch, "input_ids": hidden_ids.where(real, labels)}
    logits = model(**inputs).logits
    vectors = torch.log1p(torch.relu(logits.amax(dim=1)))
    goals = labels.where(real, -100)  # which cross_entropy leaves out
    named = torch.nn.functional.cross_entropy(logits.flatten(0, 1), goals.flatten())
    return named + FLOPS_WEIGHT * vectors.mean(dim=0).square().sum()


def report(folder: Path, scratch: Path, texts: Sequence[str], options: argparse.Namespace) -> None:
    """Convert the checkpoint, and print what each file makes of the texts."""
    files = make_files(options, folder, scratch, family=FAMILY, beside=["Float16"])
    arguments = ConversionArguments(
        model_id=str(folder), family=FAMILY, output_dir=str(scratch / "unused")
    )
    reference = SparseReference(convert.decide(arguments).checkpoint, 128, [OUTPUT])
    inputs = [reference.tokenize([text], "right") for text in texts]
    expected = np.concatenate([reference.run(one)[OUTPUT] for one in inputs])

    def figures(file: GraphFile, exact: bool) -> dict[str, float]:
        session = open_for_measuring(file.path, exact=exact)
        return compare(expected, [session.run([OUTPUT], one)[0] for one in inputs])

    found = in_each_arithmetic([files.original, *files.others], figures, exact=False)
    found |= in_each_arithmetic(files.eight_bits, figures, exact=options.exact)
    terms = np.median((expected > 0).sum(axis=1))
    print(f"{machine()}; {len(texts)} texts, {terms:.0f} terms in the median text\n")
    print(f"{measures_table(MEASURES, found)}\n", flush=True)
    print(sizes_and_speeds(files, options.rounds, beside=files.others))


def compare(expected: Floats, vectors: Sequence[Floats]) -> dict[str, float]:
    """Return the figures of sparse vectors ``[texts, vocabulary]`` by the names of measures."""
    actual = np.concatenate(vectors)
    cosines = row_cosines(expected, actual)
    figures = (cosines.mean(), cosines.min(), np.abs(expected - actual).max())
    return by_name(MEASURES, figures)


if __name__ == "__main__":
    sys.exit(main())
