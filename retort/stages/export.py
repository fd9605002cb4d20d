"""Export: the checkpoint's model, traced by Optimum into the portable fp32 graph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from retort.artifact import Artifact, Checkpoint
from retort.errors import InputError
from retort.graphs.onnx_file import settle_external_data
from retort.talk import doing, third_party_quiet

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily
    from retort.arguments import ExportArguments

OPSETS = range(14, 21)
PORTABLE_OPSET = 18


def export(
    checkpoint: Checkpoint, family: ModelFamily, arguments: ExportArguments, folder: Path
) -> Artifact:
    """Trace the checkpoint into ``folder / "model.onnx"`` with dynamic batch and sequence axes.

    Args:
        checkpoint: The model; only read.
        family: What goes into the graph.
        arguments: The opset and the device to trace on.
        folder: An empty folder of this stage's own.

    Returns:
        The portable fp32 graph.

    Raises:
        InputError: If the opset or the device cannot be had.
        ConversionError: If the model cannot be loaded or traced.
    """
    started = time.perf_counter()
    opset = _opset(arguments.opset)
    _check_device(arguments.device)
    with doing(f"export of {checkpoint.model_id}"), third_party_quiet():
        from optimum.exporters.onnx import main_export

        from onnx_configs.base import onnx_config

        recipe = family.recipe(checkpoint, arguments)
        config = onnx_config(checkpoint, recipe)
        opset = opset or max(PORTABLE_OPSET, min(config.DEFAULT_ONNX_OPSET, OPSETS[-1]))
        main_export(
            str(checkpoint.backbone),
            output=folder,
            task=recipe.task,
            opset=opset,
            device=arguments.device,
            library_name="transformers",
            trust_remote_code=checkpoint.trust_remote_code,
            local_files_only=True,
            do_validation=False,
            custom_onnx_configs={"model": config},
        )
    path = folder / "model.onnx"
    settle_external_data(path)
    settings = {"task": recipe.task, "opset": opset, "outputs": list(recipe.outputs)}
    seconds = time.perf_counter() - started
    return Artifact(path, family.name).after(path, "export", settings, seconds)


def _opset(opset: int | None) -> int | None:
    if opset is not None and opset not in OPSETS:
        raise InputError(
            f"--opset {opset}: Optimum's tracing exporter serves {OPSETS[0]} to {OPSETS[-1]}; "
            "choose one of those"
        )
    return opset


def _check_device(device: str) -> None:
    import torch

    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"--device {device}: this PyTorch has no such device; use cpu")
