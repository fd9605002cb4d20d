"""Options that say where the result goes and what is said on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from retort.arguments.option import option

Layout = Literal["onnx", "root", "both"]


@dataclass(frozen=True, kw_only=True)
class OutputArguments:
    """Where the result goes and what is said on the way."""

    _argument_group_name: ClassVar[str] = "output"

    output_parent_dir: str = field(
        default="./models/",
        metadata=option("The result is written to a folder below this one, named after the model."),
    )
    file_naming: Literal["transformers.js", "opt_level"] = field(
        default="transformers.js",
        metadata=option(
            "transformers.js: model_quantized.onnx and so on; opt_level: model_opt1_QInt8.onnx."
        ),
    )
    output_dir: str | None = field(
        default=None,
        metadata=option("The result is exactly this folder; overrides --output_parent_dir."),
    )
    layout: Layout | None = field(
        default=None,
        metadata=option(
            "Where graphs stand: onnx (the folder onnx/), root, or both (hard links in the root); "
            "unset takes the family's, onnx for all but colbert."
        ),
    )
    force: bool = field(default=False, metadata=option("Replace an existing output folder."))
    dry_run: bool = field(
        default=False, metadata=option("Print the plan as JSON and stop; no weights are loaded.")
    )
    quiet: bool = field(default=False, metadata=option("Say nothing but warnings and errors."))
    verbose: bool = field(
        default=False, metadata=option("Say more; print a traceback with an error.")
    )
    json: bool = field(
        default=False, metadata=option("Print one machine-readable result line on stdout.")
    )
