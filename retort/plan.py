"""What a conversion will do, decided before anything heavy is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.arguments import ConversionArguments, Layout
from retort.artifact import Artifact, Checkpoint
from retort.errors import InputError
from retort.graphs.n_bit_file import KINDS
from retort.output.output_folder import target_folder
from retort.recipes.recipe import PLAIN
from retort.stages.export import check_device
from retort.stages.quantize import QuantizeSettings, choose_source, quantize_settings

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily

MAIN = "model"
PORTABLE = "fp32"
OPTIMIZED = "optimized"
TRANSFORMERS_JS_NAMES = {
    "QInt8": "onnx/model_int8.onnx",
    "QUInt8": "onnx/model_uint8.onnx",
    "QInt8Static": "onnx/model_int8_static.onnx",
    "QUInt8Static": "onnx/model_uint8_static.onnx",
    "Float16": "onnx/model_fp16.onnx",
    "Q8": "onnx/model_q8.onnx",
    "Q4": "onnx/model_q4.onnx",
    "Q4F16": "onnx/model_q4f16.onnx",
    "BNB4": "onnx/model_bnb4.onnx",
}
OF_DEFAULT_NAME = frozenset({"QInt8", "QUInt8"})
DEFAULT_8_BIT_NAME = "onnx/model_quantized.onnx"  # what transformers.js calls q8


@dataclass(frozen=True)
class Plan:
    """One conversion, decided.

    Attributes:
        checkpoint: The source.
        family: The model family.
        target: The folder that will be written.
        graphs: For each graph, by its stem, the files by variant: ``fp32``, ``optimized`` and the
            precisions. All families but the visual ones have one, ``model``.
        links: Further names of the same bytes.
        quantize: The settings of each precision.
        optimize: The fusion level.
        promises_level: Whether the file names say from which fusion level a precision was made.
    """

    checkpoint: Checkpoint
    family: ModelFamily
    target: Path
    graphs: Mapping[str, Mapping[str, str]]
    links: Mapping[str, str]
    quantize: tuple[QuantizeSettings, ...]
    optimize: int
    promises_level: bool = False

    @property
    def files(self) -> dict[str, str]:
        """Graph files by variant; of further graphs, by stem and variant."""
        return {
            variant if stem == MAIN else f"{stem} {variant}": file
            for stem, files in self.graphs.items()
            for variant, file in files.items()
        }

    @property
    def searches(self) -> bool:
        """Whether 8-bit recipes are tried on texts."""
        return any(settings.searches for settings in self.quantize)

    @property
    def vocabulary(self) -> int:
        """The number of token ids, for random inputs."""
        return self.family.vocabulary(self.checkpoint)

    def quantize_from(
        self, optimized: Artifact | None, portable: Artifact, settings: QuantizeSettings
    ) -> Artifact:
        """Return the graph that precisions are made from."""
        if needs_portable(settings.precision, settings.skip_shape_inference):
            return portable
        if optimized is not None and self.promises_level:
            return optimized
        return choose_source(optimized, portable)

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "model_id": self.checkpoint.model_id,
            "commit": self.checkpoint.commit,
            "model_type": self.checkpoint.model_type,
            "family": self.family.name,
            "task": self.family.tasks[0],
            "maximum_length": self.family.maximum_length(self.checkpoint),
            "target": str(self.target),
            "files": dict(self.files),
            "links": dict(self.links),
            "optimize": self.optimize,
            "quantize": [asdict(settings) for settings in self.quantize],
        }


def make_plan(arguments: ConversionArguments, checkpoint: Checkpoint, family: ModelFamily) -> Plan:
    """Return what the arguments mean for a checkpoint of a family.

    Raises:
        InputError: If the family refuses an option, or no folder can have the output's name.
    """
    check_device(arguments.device)
    family.check(checkpoint, arguments)
    for precision in arguments.quantize:
        if precision not in family.precisions:
            raise InputError(
                f"--quantize {precision}: {family.name} has no such precision yet, only "
                f"{', '.join(('fp32', *family.precisions))}; leave it out"
            )
    family.check_architecture(checkpoint)
    layout = arguments.layout or family.layout
    graphs = {stem: file_names(arguments, layout, stem) for stem in family.graphs(arguments)}
    return Plan(
        checkpoint=checkpoint,
        family=family,
        target=_target(arguments, checkpoint),
        graphs=graphs,
        links={
            link: file
            for stem, files in graphs.items()
            for link, file in link_names(arguments, files, layout, stem).items()
        },
        quantize=tuple(_settings(arguments, family, name) for name in arguments.quantize),
        optimize=arguments.optimize,
        promises_level=arguments.file_naming == "opt_level",
    )


def _settings(
    arguments: ConversionArguments, family: ModelFamily, precision: str
) -> QuantizeSettings:
    settings = quantize_settings(arguments, precision)
    if not family.per_row:
        return settings
    if settings.searches and (arguments.recipe == "accurate" or precision.endswith("Static")):
        raise InputError(
            f"{precision} with --recipe {arguments.recipe}: {family.name} is not calibrated, its "
            "activations have a scale for each token; use --recipe auto with QInt8"
        )
    return replace(settings, per_row=True, recipe=PLAIN)


def needs_portable(precision: str, skip_shape_inference: bool) -> bool:
    """Tell whether a precision needs the portable graph.

    Fused operators hide their weights from what writes n bits, and without shapes their types from
    what writes 8.
    """
    return precision in KINDS or (skip_shape_inference and precision != "Float16")


def _target(arguments: ConversionArguments, checkpoint: Checkpoint) -> Path:
    if arguments.output_dir is None:
        return target_folder(Path(arguments.output_parent_dir), checkpoint.name)
    given = Path(arguments.output_dir)
    if given.name in ("", ".."):
        given = Path(os.path.realpath(given))
    if not arguments.output_dir or not given.name:
        raise InputError(f"--output_dir {arguments.output_dir!r} names no folder; choose another")
    # Where the system finds it behind links and ".."; but a link at its end stays, to be refused.
    return target_folder(Path(os.path.realpath(given.parent)), given.name)


def file_names(
    arguments: ConversionArguments, layout: Layout = "onnx", stem: str = MAIN
) -> dict[str, str]:
    """Return the name of each file of a graph by variant, the portable one first."""
    level, by_level = arguments.optimize, arguments.file_naming == "opt_level"
    files = {PORTABLE: "onnx/model.onnx"}
    if level:
        files[OPTIMIZED] = f"onnx/model_opt{level}{'_Float32' if by_level else ''}.onnx"
    for precision in arguments.quantize:
        if by_level:
            made_at = 0 if needs_portable(precision, arguments.skip_shape_inference) else level
            files[precision] = f"onnx/model_opt{made_at}_{precision}.onnx"
        elif precision in OF_DEFAULT_NAME and DEFAULT_8_BIT_NAME not in files.values():
            files[precision] = DEFAULT_8_BIT_NAME
        else:
            files[precision] = TRANSFORMERS_JS_NAMES[precision]
    place = _in_root if layout == "root" else str
    return {variant: _named(place(file), stem) for variant, file in files.items()}


def link_names(
    arguments: ConversionArguments,
    files: Mapping[str, str],
    layout: Layout = "onnx",
    stem: str = MAIN,
) -> dict[str, str]:
    """Return further names of files: transformers.js's int8 or uint8 beside q8, and the root's.

    In the root stand the names that next-plaid and text-embeddings-inference ask for there.
    """
    by_level = arguments.file_naming == "opt_level"
    named = {} if by_level else {k: _named(v, stem) for k, v in TRANSFORMERS_JS_NAMES.items()}
    place = _in_root if layout == "root" else str
    links = {
        place(named[variant]): file
        for variant, file in files.items()
        if variant in named and file != place(named[variant])
    }
    if layout != "both":
        return links
    shipped = {variant: file for variant, file in files.items() if variant != OPTIMIZED}
    root = {_in_root(named.get(variant, file)): file for variant, file in shipped.items()}
    return {**links, **root}


def _named(name: str, stem: str) -> str:
    return name.replace("model", stem, 1)


def _in_root(name: str) -> str:
    return name.removeprefix("onnx/")
