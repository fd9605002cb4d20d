"""A tiny ColBERT as ``colbert_export`` exports it, once in a session, and copies to be changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from colbert_checkpoints import build_colbert
from converted import workshop
from tokenizers import Tokenizer

import colbert_export
from retort.texts import validation_texts

ROOT = Path(colbert_export.__file__).parent
SETTINGS = ("config_sentence_transformers.json", "onnx_config.json")
TEXTS = [sample.text for sample in validation_texts() if len(sample.text) < 60][:40]


@cache
def checkpoint() -> Path:
    """Return a tiny BERT as PyLate saves it."""
    return build_colbert(workshop() / "doors" / "org" / "tiny-colbert", "bert")


@cache
def first_export() -> subprocess.CompletedProcess[str]:
    """Export with the 8-bit file, in a process that has set up nothing, and not verbosely."""
    return python(
        "import sys; from colbert_export import export_model; "
        "print(repr(export_model(sys.argv[1], sys.argv[2], quantize=True, verbose=False)))",
        checkpoint(),
        workshop() / "doors" / "exported",
    )


def exported() -> Path:
    """Return a folder with both graphs; not to be changed."""
    assert first_export().returncode == 0, first_export().stderr
    return workshop() / "doors" / "exported"


def exported_copy(target: Path) -> Path:
    """Copy ``exported`` with its hard links, to be changed."""
    places: dict[int, Path] = {}
    for path in sorted(path for path in exported().rglob("*") if path.is_file()):
        place = target / path.relative_to(exported())
        place.parent.mkdir(parents=True, exist_ok=True)
        first = places.setdefault(path.stat().st_ino, place)
        if first is place:
            shutil.copyfile(path, place)
        else:
            os.link(first, place)
    return target


def python(
    script: str, *argv: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program as a process of its own."""
    command = [sys.executable, "-c", script, *map(str, argv)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )


def token_cosines(first: Path, second: Path) -> np.ndarray:
    """Return the cosine of every token embedding that two graphs give for real texts."""
    tokenizer = Tokenizer.from_file(str(first.parent / "tokenizer.json"))
    tokenizer.enable_truncation(40)
    graphs = [onnxruntime.InferenceSession(path) for path in (first, second)]
    found = []
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        values["token_type_ids"] = np.zeros_like(ids)
        one, two = (
            graph.run(["output"], {item.name: values[item.name] for item in graph.get_inputs()})[0]
            for graph in graphs
        )
        found.append((one * two).sum(-1).ravel())
    return np.concatenate(found)
