"""Options that say what the graph should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from retort.arguments.option import option

OPSETS = range(14, 21)  # those that Optimum's tracing exporter serves with today's attention
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """What the graph should be."""

    _argument_group_name: ClassVar[str] = "export"

    task: str = field(
        default="auto",
        metadata=option("Optimum task or synonym of it; auto derives it from the checkpoint."),
    )
    family: str = field(
        default="auto",
        metadata=option(
            "Model family, a file name in onnx_configs/; name one when a checkpoint could be two."
        ),
    )
    pooling: Pooling | None = field(
        default=None,
        metadata=option(
            "Adds a sentence_embedding output, not normalised, to a checkpoint that has no "
            "modules.json."
        ),
    )
    splade_outputs: list[str] = field(
        default_factory=list,
        metadata=option(
            "splade: the graph's outputs in their order, of logits, output_idx, output_weights, "
            "sparse_vector, by commas or by repeating the option; unset takes all four.",
            {"action": "extend", "metavar": "OUTPUT"},
        ),
    )
    visual_variant: Literal["combined", "text", "image", "all"] = field(
        default="combined",
        metadata=option(
            "ColPali and ColQwen2: combined takes text, images and rows of both; text takes no "
            "images; image is combined without an If; all writes the three."
        ),
    )
    opset: int | None = field(
        default=None,
        metadata=option("ONNX opset, 14 to 20; unset takes the architecture's, usually 18."),
    )
    device: str = field(default="cpu", metadata=option("Torch device to trace on: cpu or cuda."))
