"""The trained example answers as it should in every file, and --verify shows where one does not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from agreement import run_graph
from converted import workshop
from local_models import resolved
from onnx import numpy_helper
from transformers import AutoModelForTokenClassification, AutoTokenizer

import convert
from onnx_configs import families
from retort.arguments import ConversionArguments, ExportArguments
from retort.stages.verify import verify

EXAMPLE = Path(__file__).parents[1] / "examples" / "bus_ner"
sys.path.insert(0, str(EXAMPLE))

from generate import make_queries  # noqa: E402  # the example is not a package

TEXT = "AC sleeper bus from Bangalore to Mumbai tomorrow"
ANSWER = (
    'B-BUS_TYPE: "AC"',
    'B-SEAT_TYPE: "sleeper"',
    'B-SRC: "Bangalore"',
    'B-DEST: "Mumbai"',
    'B-DATE: "tomorrow"',
)
INDENTED = tuple(f"    {line}" for line in ANSWER)
INT8 = "onnx/model_quantized.onnx"
HELD_OUT_QUERIES = 400


@cache
def bus_ner() -> convert.Conversion:
    return convert.convert(
        ConversionArguments(
            model_id=str(EXAMPLE),
            output_parent_dir=str(workshop()),
            quantize=["QInt8", "Float16"],
            recipe="plain",
            skip_validation=True,
            verify=True,
            verify_text=[TEXT],
        )
    )


def held_out_batches(texts_in_a_batch: int = 50) -> Iterator[dict[str, np.ndarray]]:
    tokenizer = AutoTokenizer.from_pretrained(EXAMPLE)
    texts = [query.text for query in make_queries("held_out", HELD_OUT_QUERIES, seed=11)]
    for start in range(0, len(texts), texts_in_a_batch):
        batch = texts[start : start + texts_in_a_batch]
        yield dict(tokenizer(batch, padding=True, truncation=True, return_tensors="np"))


def test_verify_tells_once_what_all_files_find_in_the_text() -> None:
    files = f"onnx/model.onnx, onnx/model_opt1.onnx, {INT8}, onnx/model_fp16.onnx"
    assert bus_ner().verified == (TEXT, f"  {files} (as PyTorch):", *INDENTED)


def test_the_8_bit_file_gives_the_tags_of_pytorch_on_held_out_queries() -> None:
    model = AutoModelForTokenClassification.from_pretrained(EXAMPLE).eval()
    same = []
    for inputs in held_out_batches():
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
            expected = model(**tensors).logits.numpy().argmax(-1)
        actual = run_graph(bus_ner().plan.target / INT8, inputs)["logits"].argmax(-1)
        same.append((expected == actual)[inputs["attention_mask"].astype(bool)])
    tokens = np.concatenate(same)
    assert len(tokens) > 3000
    assert tokens.mean() >= 0.99


def make_every_word_a_source(path: Path) -> None:
    """Damage a graph: the bias of one label becomes larger than any logit."""
    model = onnx.load(path)
    (bias,) = (i for i in model.graph.initializer if i.name == "classifier.bias")
    values = numpy_helper.to_array(bias).copy()
    values[AutoModelForTokenClassification.from_pretrained(EXAMPLE).config.label2id["B-SRC"]] = 1e3
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    path.unlink()  # other names of the file keep the old bytes
    onnx.save(model, path)


def test_verify_shows_both_answers_where_a_file_differs_from_pytorch(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(bus_ner().plan.target, folder)
    make_every_word_a_source(folder / INT8)
    family = families()["token_classification"]
    reference = family.reference(resolved(EXAMPLE), ExportArguments())

    lines = verify(folder, ["onnx/model.onnx", INT8], family, reference, [TEXT])

    assert lines == (
        TEXT,
        "  onnx/model.onnx (as PyTorch):",
        *INDENTED,
        f"  {INT8} (unlike PyTorch):",
        *(f'    B-SRC: "{word}"' for word in TEXT.split()),
        "  PyTorch:",
        *INDENTED,
    )


@pytest.mark.parametrize("text", ["", "   "])
def test_verify_says_that_a_file_found_nothing(text: str) -> None:
    family = families()["token_classification"]
    reference = family.reference(resolved(EXAMPLE), ExportArguments())
    lines = verify(bus_ner().plan.target, [INT8], family, reference, [text])
    assert lines == (text, f"  {INT8} (as PyTorch):", "    nothing found")
