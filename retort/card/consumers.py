"""Code for each consumer of a folder, around the lines that a family adds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from retort.card.facts import MODEL, GraphFile, Usage

PORTABLE = ("onnx/model.onnx", "model.onnx")
TRANSFORMERS_JS = "transformers.js"
_JS_FOLDERS = "A folder on a disk goes by its name, `env.localModelPath` being the folder above it."


def chosen_graph(graphs: Sequence[GraphFile]) -> str:
    """Return the graph that the code loads: the first with 8 bits, else the portable one."""
    names = [graph.name for graph in graphs]
    small = [graph.name for graph in graphs if "Int8" in graph.precision]
    return next(iter([*small, *(name for name in PORTABLE if name in names), *names]))


def serving_library(graphs: Sequence[GraphFile]) -> str:
    """Return transformers.js where it finds the graphs, which makes the Hub show its code."""
    return TRANSFORMERS_JS if js_dtype(graphs) else "onnx"


def js_dtype(graphs: Sequence[GraphFile]) -> str | None:
    """Return what transformers.js calls the graph that the code loads; None if it finds none."""
    names = {graph.name for graph in graphs}
    known = {"onnx/model_quantized.onnx": "q8", "onnx/model.onnx": "fp32"}
    return next((dtype for name, dtype in known.items() if name in names), None)


def transformers_js(graphs: Sequence[GraphFile], code: str, note: str = "") -> tuple[Usage, ...]:
    """Return the usage of transformers.js, () where it does not find the graphs.

    Args:
        graphs: Those of the folder.
        code: With ``DTYPE`` where the dtype stands.
        note: As in ``Usage``.
    """
    dtype = js_dtype(graphs)
    if dtype is None:
        return ()
    notes = " ".join(filter(None, [note, _JS_FOLDERS]))
    return (Usage(TRANSFORMERS_JS, "js", code.replace("DTYPE", dtype), notes),)


def sentence_transformers(
    graphs: Sequence[GraphFile], calls: Sequence[str], *, remote_code: bool = False
) -> Usage:
    """Return the usage of sentence-transformers.

    Args:
        graphs: Those of the folder.
        calls: The lines after ``model`` is there.
        remote_code: Whether code that comes with the folder must be allowed.
    """
    trust = "\n    trust_remote_code=True," if remote_code else ""
    opening = f"""\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(
    "{MODEL}",
    backend="onnx",
    model_kwargs={{"file_name": "{chosen_graph(graphs)}"}},{trust}
)
"""
    return Usage("sentence-transformers", "python", opening + _lines(calls))


def optimum(
    graphs: Sequence[GraphFile],
    model_class: str,
    calls: Sequence[str],
    *,
    imports: str = "",
    note: str = "",
) -> Usage:
    """Return the usage of Optimum.

    Args:
        graphs: Those of the folder.
        model_class: Such as ``ORTModelForTokenClassification``.
        calls: The lines after ``model`` and ``tokenizer`` are there.
        imports: More names from transformers, each after a comma and a space.
        note: As in ``Usage``.
    """
    path = PurePosixPath(chosen_graph(graphs))
    folder = f'subfolder="{path.parent}", ' if path.parent.name else ""
    opening = f"""\
from optimum.onnxruntime import {model_class}
from transformers import AutoTokenizer{imports}

tokenizer = AutoTokenizer.from_pretrained("{MODEL}")
model = {model_class}.from_pretrained(
    "{MODEL}", {folder}file_name="{path.name}"
)
"""
    return Usage("Optimum", "python", opening + _lines(calls), note)


def retort_runtime(graphs: Sequence[GraphFile], calls: Sequence[str]) -> Usage:
    """Return the usage of Retort's runtime: the lines after ``model`` is there are ``calls``."""
    opening = f"""\
from retort.runtime import load

model = load("{MODEL}", "{chosen_graph(graphs)}")
"""
    return Usage("Retort's runtime, without PyTorch", "python", opening + _lines(calls))


def quoted(text: str) -> str:
    """Return a text as both Python and JavaScript write it."""
    return json.dumps(text, ensure_ascii=False)


def _lines(calls: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in calls)
