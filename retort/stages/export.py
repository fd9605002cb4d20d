"""Export: the checkpoint's model, traced by Optimum into the portable fp32 graph."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.arguments import OPSETS
from retort.artifact import Artifact, Checkpoint
from retort.errors import ConversionError, InputError
from retort.graphs.external_data import settle_external_data
from retort.graphs.onnx_file import rewrite_graph
from retort.talk import third_party_work, without_bars

if TYPE_CHECKING:
    from onnx_configs.base import GraphRecipe, ModelFamily
    from retort.arguments import ExportArguments

PORTABLE_OPSET = 18
UNUSED_WEIGHTS = ("pooler.",)  # BERT's pooler, which no graph of ours reads


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
        InputError: If the checkpoint lacks weights.
        ConversionError: If the model cannot be loaded or traced.
    """
    started = time.perf_counter()
    with third_party_work(f"export of {checkpoint.model_id}"):
        from optimum.exporters.onnx.convert import onnx_export_from_model

        recipe = family.recipe(checkpoint, arguments)
        config = family.onnx_config(checkpoint, recipe)
        opset = arguments.opset or max(PORTABLE_OPSET, min(config.DEFAULT_ONNX_OPSET, OPSETS[-1]))
        with _external_data_left_alone():
            onnx_export_from_model(
                _load_model(checkpoint, recipe, arguments.device),
                output=folder,
                task=recipe.task,
                opset=opset,
                device=arguments.device,
                do_validation=False,
                custom_onnx_configs={"model": config},
            )
    path = folder / "model.onnx"
    settle_external_data(path)
    if recipe.rewrite is not None:
        rewrite_graph(path, recipe.rewrite)
    settings = {"task": recipe.task, "opset": opset, "outputs": list(recipe.outputs)}
    seconds = time.perf_counter() - started
    return Artifact(path, family.name).after(path, "export", settings, seconds)


@contextmanager
def _external_data_left_alone() -> Iterator[None]:
    """Keep Optimum from loading all that PyTorch wrote outside a graph, to write it as one file.

    The model is in memory as well at that moment; ``settle_external_data`` copies in blocks.
    """
    from optimum.exporters.onnx import convert as exporter

    theirs = exporter.check_model_uses_external_data
    exporter.check_model_uses_external_data = lambda model: False
    try:
        yield
    finally:
        exporter.check_model_uses_external_data = theirs


def _load_model(checkpoint: Checkpoint, recipe: GraphRecipe, device: str) -> Any:
    """Load the model as fp32; main_export would do the same, but says nothing of lost weights."""
    import torch
    from optimum.exporters.tasks import TasksManager

    task = recipe.task
    kind = recipe.model_class or TasksManager.get_model_class_for_task(
        task, framework="pt", model_type=checkpoint.model_type, library="transformers"
    )
    try:
        with without_bars():
            model, info = kind.from_pretrained(
                checkpoint.backbone,
                dtype=torch.float32,
                trust_remote_code=checkpoint.trust_remote_code,
                local_files_only=True,
                output_loading_info=True,
            )
    except pickle.UnpicklingError as error:
        raise _hostile_pickle(checkpoint) from error
    except (OSError, ImportError) as error:
        if isinstance(error.__context__, pickle.UnpicklingError):
            raise _hostile_pickle(checkpoint) from error
        raise
    missing = [key for key in sorted(info["missing_keys"]) if not key.startswith(UNUSED_WEIGHTS)]
    if any(key.startswith("decoder.") for key in missing):
        raise InputError(
            f"{checkpoint.backbone}: an encoder without its decoder ({checkpoint.model_type}), "
            "which no family of Retort takes"
        )
    if missing:
        raise InputError(
            f"{checkpoint.backbone}: the weights lack {missing[0]} ({len(missing)} missing), so it "
            f"is not a whole model for {task}; check the checkpoint, or choose another --family"
        )
    model.config.use_cache = False
    return model.to(device)


def _hostile_pickle(checkpoint: Checkpoint) -> ConversionError:
    return ConversionError(
        f"{checkpoint.backbone / 'pytorch_model.bin'}: holds more than tensors, so it is not "
        "loaded; convert it to safetensors where you trust it"
    )


def check_device(device: str) -> None:
    """Refuse a device that this PyTorch has not.

    Raises:
        InputError: If it is neither ``cpu`` nor a CUDA device that is there.
    """
    import torch

    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"--device {device}: this PyTorch has no such device; use cpu")
