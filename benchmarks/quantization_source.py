"""Is an 8-bit file faster when it is made from the portable or from the optimized graph?

Random models of all-MiniLM-L6-v2's size, one for each architecture, are exported and optimized;
both graphs are quantized, and the results timed in turns. ``retort/stages/quantize.py`` chooses by
what this shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel

from onnx_configs import families
from retort.arguments import ConversionArguments
from retort.artifact import Artifact, Checkpoint
from retort.graphs.onnx_file import summarize
from retort.graphs.session import open_session
from retort.graphs.timing import fastest_seconds
from retort.stages.export import export
from retort.stages.optimize import optimize
from retort.stages.quantize import quantize, quantize_settings

VOCABULARY = 51_000  # ModernBERT pads with 50283
SHAPES = ((1, 32), (8, 128), (32, 128))
ENCODER = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
DECODER = {**ENCODER, "num_key_value_heads": 4, "head_dim": 32, "intermediate_size": 1024}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "bert": {**ENCODER, "intermediate_size": 1536},
    "distilbert": {"dim": 384, "n_layers": 6, "n_heads": 12, "hidden_dim": 1536},
    "mpnet": {**ENCODER, "intermediate_size": 1536},
    "deberta-v2": {**ENCODER, "intermediate_size": 1536},
    "modernbert": {**ENCODER, "intermediate_size": 768},
    "qwen3": DECODER,
    "llama": DECODER,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=8, help="rounds of timing")
    options = parser.parse_args(argv)
    shapes = " | ".join(f"{batch}×{length}" for batch, length in SHAPES)
    print(
        f"Speed of the 8-bit file from the optimized graph, that from the portable one = 1.\n\n"
        f"| architecture | fused | {shapes} |\n|---|---|{'---|' * len(SHAPES)}"
    )
    for name in options.models:
        print(f"measuring {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            fused, ratios = measure(name, Path(folder), options.rounds)
        figures = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {name} | {fused} | {figures} |", flush=True)
    return 0


def measure(name: str, folder: Path, rounds: int) -> tuple[str, list[float]]:
    """Return what was fused, and how much faster the optimized graph's 8-bit file is."""
    graphs = make_graphs(name, folder)
    sessions = {kind: open_session(artifact.path) for kind, artifact in graphs.items()}
    seconds = fastest_seconds(sessions, VOCABULARY, shapes=SHAPES, rounds=rounds)
    fused = summarize(graphs["optimized"].path).fused_operators
    ratios = [
        slow / fast for slow, fast in zip(seconds["portable"], seconds["optimized"], strict=True)
    ]
    return " ".join(fused) or "none", ratios


def make_graphs(name: str, folder: Path) -> dict[str, Artifact]:
    """Return the 8-bit files from both graphs of a random model."""
    config = AutoConfig.for_model(name, vocab_size=VOCABULARY, **MODELS[name])
    model = AutoModel.from_config(config)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder / "checkpoint")
    checkpoint = Checkpoint(
        model_id=name,
        name=name,
        folder=folder / "checkpoint",
        config=json.loads((folder / "checkpoint" / "config.json").read_text(encoding="utf-8")),
    )
    arguments = ConversionArguments(model_id=name)
    portable = export(checkpoint, families()["embedding"], arguments, folder / "export")
    optimized = optimize(portable, checkpoint, 1, folder / "optimize")
    settings = quantize_settings(arguments, "QInt8")
    sources = {"portable": portable, "optimized": optimized}
    return {kind: quantize(artifact, settings, folder / kind) for kind, artifact in sources.items()}


if __name__ == "__main__":
    sys.exit(main())
