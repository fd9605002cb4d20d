"""XQuAD's questions and paragraphs as files tell them, and figures of how well they are found."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
XQUAD = DATA / "xquad"
BEST = 10


@dataclass(frozen=True)
class Retrieval:
    """What is looked for, and where.

    Attributes:
        queries: The questions.
        documents: The paragraphs.
        relevant: For each question the places of the documents that answer it.
    """

    queries: list[str]
    documents: list[str]
    relevant: list[frozenset[int]]


def add_xquad(parser: argparse.ArgumentParser) -> None:
    """Add the folder of XQuAD as an argument."""
    parser.add_argument(
        "xquad",
        nargs="?",
        type=Path,
        default=XQUAD,
        help="folder of XQuAD with en/corpus.jsonl, en/queries.jsonl and en/qrels/test.tsv "
        "(default: ../shared/data/xquad beside the repository)",
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the objects of a ``.jsonl``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def read_texts(path: Path) -> list[str]:
    """Return the texts of a file: its lines, or the ``text`` of each object in a ``.jsonl``."""
    if path.suffix == ".jsonl":
        return [row["text"] for row in read_rows(path)]
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_answers(folder: Path) -> list[tuple[str, str]]:
    """Return the ids of each question and of a paragraph that answers it."""
    lines = (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    cells = [line.split("\t") for line in lines]
    return [(query, document) for query, document, score in cells if int(score) > 0]


def read_retrieval(folder: Path) -> Retrieval:
    """Return the questions, paragraphs and answers of one language's folder."""
    documents, queries = (read_rows(folder / f"{name}.jsonl") for name in ("corpus", "queries"))
    places = {row["_id"]: place for place, row in enumerate(documents)}
    answers: dict[str, set[int]] = {row["_id"]: set() for row in queries}
    for query, document in read_answers(folder):
        answers[query].add(places[document])
    return Retrieval(
        [row["text"] for row in queries],
        [row["text"] for row in documents],
        [frozenset(answers[row["_id"]]) for row in queries],
    )


def best_documents(scores: Floats, count: int = BEST) -> npt.NDArray[np.int64]:
    """Return the places of each query's best documents, from ``[queries, documents]``."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def agreement(expected: Floats, actual: Floats) -> float:
    """Return the share of each query's best documents that stay among its best, on average."""
    pairs = zip(best_documents(expected), best_documents(actual), strict=True)
    return float(np.mean([len(set(left) & set(right)) / BEST for left, right in pairs]))


def ndcg(scores: Floats, relevant: list[frozenset[int]]) -> float:
    """Return nDCG@10 for scores ``[queries, documents]`` (Järvelin and Kekäläinen 2002)."""
    discounts = 1 / np.log2(np.arange(2, BEST + 2))
    gains = []
    for found, wanted in zip(best_documents(scores), relevant, strict=True):
        gained = discounts[np.isin(found, list(wanted))].sum()
        gains.append(gained / discounts[: len(wanted)].sum())
    return float(np.mean(gains))
