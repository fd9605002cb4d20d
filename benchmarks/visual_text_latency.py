"""What the vision tower costs a text: ColQwen2's combined graph beside its graph of text alone.

A random model stands for a trained one, whose speed is the same. Both graphs are run in turns, in
a random order in every round; the fastest run of each counts.

    python benchmarks/visual_text_latency.py
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import ColQwen2Config, ColQwen2ForRetrieval

from onnx_configs import families
from retort.arguments import ConversionArguments
from retort.artifact import Checkpoint
from retort.graphs.session import open_session
from retort.graphs.timing import PAUSE_SECONDS, token_inputs
from retort.stages.export import export

SHAPES = ((1, 32), (8, 32), (4, 128))
VARIANTS = ("combined", "text")
VOCABULARY, IMAGE_TOKEN = 2000, 1999
BAR = 1.05
HIDDEN_PER_HEAD = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, print its table, and return 1 where the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=8, help="of each tower")
    parser.add_argument("--hidden", type=int, default=512, help="a multiple of 64")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=5, help="of each graph in a round")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checkpoint = build(folder / "checkpoint", options.layers, options.hidden)
        sessions = {variant: open_graph(checkpoint, variant, folder) for variant in VARIANTS}
    rows = measure(sessions, options.rounds, options.runs)
    if options.json:
        print(json.dumps(rows))
    else:
        print("| batch × tokens | combined ms | text ms | ratio |\n|---|---|---|---|")
        for shape, row in rows.items():
            figures = f"{row['combined'] * 1e3:.2f} | {row['text'] * 1e3:.2f} | {row['ratio']:.3f}"
            print(f"| {shape} | {figures} |")
    return int(any(row["ratio"] > BAR for row in rows.values()))


def build(folder: Path, layers: int, hidden: int) -> Checkpoint:
    """Save a random ColQwen2 without a tokenizer, and return it."""
    heads = hidden // HIDDEN_PER_HEAD
    text = {
        "model_type": "qwen2_vl_text",
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = {"depth": layers, "embed_dim": hidden, "hidden_size": hidden, "num_heads": heads}
    vlm = {
        "model_type": "qwen2_vl",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": IMAGE_TOKEN,
    }
    model = ColQwen2ForRetrieval(ColQwen2Config(vlm_config=vlm))
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Checkpoint(str(folder), folder.name, folder, config)


def open_graph(checkpoint: Checkpoint, variant: Any, scratch: Path) -> Any:
    """Export one variant and open it."""
    print(f"exporting {variant}", file=sys.stderr)
    arguments = ConversionArguments(model_id=checkpoint.model_id, visual_variant=variant)
    made = export(checkpoint, families()["colqwen2"], arguments, scratch / variant)
    return open_session(made.path, spinning=False)


def measure(sessions: Mapping[str, Any], rounds: int, runs: int) -> dict[str, dict[str, float]]:
    """Return the fastest seconds of each graph by shape, and the combined one's share of text's."""
    order, chance = list(sessions), random.Random(0)
    rows = {}
    for shape in SHAPES:
        inputs = {name: token_inputs(s, shape, IMAGE_TOKEN) for name, s in sessions.items()}
        _agree(sessions, inputs)
        fastest = dict.fromkeys(sessions, float("inf"))
        for number in range(rounds):
            print(f"{shape}: round {number + 1} of {rounds}", file=sys.stderr)
            chance.shuffle(order)
            for name in order:
                time.sleep(PAUSE_SECONDS)
                seconds = _fastest(sessions[name], inputs[name], runs)
                fastest[name] = min(fastest[name], seconds)
        ratio = fastest["combined"] / fastest["text"]
        rows[f"{shape[0]}×{shape[1]}"] = {**fastest, "ratio": ratio}
    return rows


def _agree(sessions: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    one, other = (session.run(None, inputs[name])[0] for name, session in sessions.items())
    np.testing.assert_allclose(one, other, atol=1e-5)


def _fastest(session: Any, inputs: Mapping[str, Any], runs: int) -> float:
    session.run(None, inputs)
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
