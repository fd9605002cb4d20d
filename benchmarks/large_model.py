"""A conversion's peak memory and wall time, for a random model whose fp32 graph exceeds 2 GB.

The model has Qwen3-Embedding-0.6B's shape with as many layers as the asked-for size needs. It is
saved in shards, converted by ``convert.py`` in a process of its own, and the result compared with
PyTorch here. The ratio is the process's peak of resident memory, mapped files included, over the
bytes of the fp32 weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from conversion import CONVERT, run_child
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from retort.graphs.session import open_session
from retort.texts import validation_texts

SHAPE = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
}
FLOAT_BYTES = 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAXIMUM_RATIO = 2.2
MAXIMUM_DIFFERENCE = 1e-4
GRAPHS = ("onnx/model.onnx", "onnx/model_opt1.onnx")
Floats = npt.NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; return 1 if the result does not agree."""
    options = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="large-model-") as scratch:
        checkpoint = Path(scratch) / "model"
        weights = save_checkpoint(checkpoint, options.gigabytes * 1e9, options.dtype)
        command = [sys.executable, str(CONVERT), "--model_id", str(checkpoint), "--output_dir"]
        command += [f"{scratch}/onnx", "--quiet", *options.options.split()]
        if options.skip_validation:
            command.append("--skip_validation")
        print(f"converting {weights / 1e9:.2f} GB", file=sys.stderr)
        run = run_child(command, Path(scratch) / "log.txt")
        folder = Path(scratch) / "onnx"
        files = {file: [f"{file}_data"] for file in GRAPHS if (folder / file).exists()}
        differences = compare(checkpoint, folder, list(files))
        layout = sorted(path.name for path in (folder / "onnx").iterdir())
    memory = run.memory * 2**20
    figures = {
        "weights": options.dtype,
        "fp32 weights GB": round(weights / 1e9, 2),
        "validated": not options.skip_validation,
        "wall s": round(run.wall, 1),
        "peak GB": round(memory / 1e9, 2),
        "ratio": round(memory / weights, 2),
        "largest difference": {file: float(f"{d:.2g}") for file, d in differences.items()},
        "files": layout,
    }
    print(json.dumps(figures))
    return int(max(differences.values()) > MAXIMUM_DIFFERENCE)


def save_checkpoint(folder: Path, wanted: float, dtype: str) -> int:
    """Save a random model of at least ``wanted`` bytes of fp32 weights; return how many it has."""
    torch.manual_seed(0)
    with torch.device("meta"):
        one, two = (
            sum(p.numel() for p in Qwen3Model(_config(layers)).parameters()) for layers in (1, 2)
        )
    layers = 1 + max(0, math.ceil((wanted / FLOAT_BYTES - one) / (two - one)))
    model = Qwen3Model(_config(layers)).to(DTYPES[dtype])
    model.save_pretrained(folder, max_shard_size="1GB")
    _tokenizer().save_pretrained(folder)
    weights = FLOAT_BYTES * sum(p.numel() for p in model.parameters())
    del model
    gc.collect()
    return weights


def compare(checkpoint: Path, folder: Path, files: Sequence[str]) -> dict[str, float]:
    """Return the largest difference of each graph's token vectors from PyTorch's, on real texts."""
    texts = [sample.text for sample in validation_texts()[:4]]
    inputs = AutoTokenizer.from_pretrained(checkpoint)(
        texts, padding=True, truncation=True, max_length=64, return_tensors="np"
    )
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    real = inputs["attention_mask"].astype(bool)
    expected = _run_torch(checkpoint, inputs)[real]
    found = {}
    for file in files:
        (actual,) = open_session(folder / file).run(["last_hidden_state"], inputs)
        found[file] = float(np.abs(actual[real] - expected).max())
    return found


def _run_torch(checkpoint: Path, inputs: dict[str, Any]) -> Floats:
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        outputs = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    vectors: Floats = outputs.last_hidden_state.numpy()
    return vectors


def _config(layers: int) -> Qwen3Config:
    return Qwen3Config(**SHAPE, num_hidden_layers=layers)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {word for sample in validation_texts() for word in sample.text.split()}
    ordered = ["<pad>", "<unk>", "<end>", *sorted(words - {"<pad>", "<unk>", "<end>"})]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(ordered)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    # So that an empty text has a token, too.
    tokenizer.post_processor = TemplateProcessing(
        single="$A <end>", pair="$A <end> $B <end>", special_tokens=[("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        padding_side="left",
        model_max_length=512,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure the peak memory of the conversion of a large random model.",
        epilog=f"The bar is a ratio of {MAXIMUM_RATIO:g}. One JSON line goes to "
        "stdout, progress to stderr. Needs Linux or macOS, and disk for six times the weights.",
    )
    parser.add_argument(
        "--gigabytes", type=float, default=2.6, help="at least so much fp32 weight, in 1e9 bytes"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="how weights are saved")
    parser.add_argument("--skip_validation", action="store_true", help="measure without validation")
    parser.add_argument("--options", default="", help="further options of convert.py, in quotes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
