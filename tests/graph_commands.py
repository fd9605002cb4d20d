"""Run ``retort``'s verbs on graph files, and compare the graphs they write."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import Ended, run_here
from converted import converted, workshop
from found_graphs import anserini_graph, optimum_export, pylate_export
from tiny_checkpoints import build_sentence_transformer

from retort import cli

GRAPHS: dict[str, Callable[[], Path]] = {
    "pylate-onnx-export": lambda: pylate_export() / "model.onnx",
    "Anserini": anserini_graph,
    "Optimum": lambda: optimum_export() / "model.onnx",
    "Optimum, ModernBERT": lambda: optimum_export("modernbert") / "model.onnx",
}
FUSED_IN_BERT = {"Attention": 2, "SkipLayerNormalization": 4}
SUFFIXES = {"QInt8": "int8", "QUInt8": "uint8", "Float16": "fp16"}
LOWEST = {"QInt8": 0.97, "QUInt8": 0.97, "Float16": 0.999}
EVERY_GRAPH = pytest.mark.parametrize("tool", GRAPHS)
LARGEST_ID = 90  # of the tiny vocabularies


def run(capture: pytest.CaptureFixture[str], *argv: str | Path) -> Ended:
    """Run ``retort`` in this process."""
    return run_here(capture, cli.main, *argv)


def error_of(done: Ended, code: int = 2) -> str:
    """Return why a command failed: the one line that begins so, after what it did before."""
    assert (done.code, done.stdout) == (code, ""), done
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert done.stderr.endswith(f"{line}\n")
    assert line.isprintable()
    return line


def copied(tool: str, folder: Path) -> Path:
    """Return a copy of a tool's graph, alone in a folder to be made."""
    folder.mkdir()
    return Path(shutil.copy(GRAPHS[tool](), folder))


@cache
def folder_of_ours() -> Path:
    """Return a converted folder with three graphs; not to be changed."""
    checkpoint = build_sentence_transformer(workshop() / "commands" / "checkpoint", "bert")
    return converted(checkpoint, quantize=["QInt8"]).folder


def operators(path: Path) -> Counter[str]:
    """Return how often each operator occurs."""
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def assert_header_is_settled(path: Path) -> None:
    """Check what ONNX Runtime 1.17 needs: a low IR version and no unused operator set."""
    model = onnx.load(path)
    assert model.ir_version <= 9
    used = {node.domain for node in model.graph.node} | {""}
    assert {opset.domain for opset in model.opset_import} == used


def assert_same_outputs(first: Path, second: Path) -> None:
    """Check that two fp32 graphs agree."""
    for inputs in _batches(first):
        for one, two in zip(_outputs(first, inputs), _outputs(second, inputs), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-4)


def lowest_cosine(first: Path, second: Path) -> float:
    """Return the lowest cosine of a batch's vectors in two graphs, the mean over its tokens."""
    found = []
    for inputs in _batches(first):
        for one, two in zip(_outputs(first, inputs), _outputs(second, inputs), strict=True):
            lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1)
            found.append(((one * two).sum(-1) / lengths).mean())
    return float(min(found))


def _batches(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Yield inputs for a graph: one text, and two of which the second is padded on a side."""
    names = [value.name for value in onnxruntime.InferenceSession(path).get_inputs()]
    ids = np.random.default_rng(1).integers(5, LARGEST_ID, (2, 9))
    right, left = np.ones((2, 9), np.int64), np.ones((2, 9), np.int64)
    right[1, 6:], left[1, :4] = 0, 0
    for rows, mask in ((1, right), (2, right), (2, left)):
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        yield {name: values[name][:rows] for name in names}


def _outputs(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the real tokens' vectors, or SPLADE's as one over the vocabulary."""
    results = onnxruntime.InferenceSession(path).run(None, inputs)
    if len(results) == 2 and results[0].dtype == np.int64:
        vector = np.zeros((1, 1000))
        np.add.at(vector[0], results[0], results[1])
        return [vector]
    real = inputs["attention_mask"].astype(bool)
    return [value[real] if value.shape[:2] == real.shape else value for value in results]
