"""Optimize: the portable graph with ONNX Runtime's fused operators."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from retort.artifact import Artifact, Checkpoint, graph_files
from retort.graphs.external_data import settle_external_data
from retort.output.output_folder import link_or_copy
from retort.talk import third_party_work

logger = logging.getLogger(__name__)


def optimize(
    artifact: Artifact,
    checkpoint: Checkpoint,
    level: int,
    folder: Path,
    *,
    skip_shape_inference: bool = False,
) -> Artifact:
    """Fuse the graph's operators at ONNX Runtime's level 1, 2 or 99.

    Attention is fused with the raw two-dimensional mask: the default turns the mask into lengths,
    which is wrong for anything but right padding.

    Args:
        artifact: The portable graph; not changed.
        checkpoint: Gives the architecture.
        level: 1 portable fusions, 2 those of the execution provider, 99 layouts of this processor.
        folder: An empty folder of this stage's own.
        skip_shape_inference: Leave symbolic shape inference out, for graphs on which it fails.

    Returns:
        The optimized graph; where ``ORTOptimizer`` does not know the architecture, the graph after
        ONNX Runtime's own optimizations alone, and the step says so.

    Raises:
        ConversionError: If ONNX Runtime cannot optimize the graph.
    """
    started = time.perf_counter()
    if level == 99:
        logger.warning(
            "level 99 bakes this processor's layouts into the file; run it only on its like"
        )
    with third_party_work(f"optimization of {artifact.path.name} at level {level}") as printed:
        path = _work_copy(artifact.path, folder / "input")
        output = folder / "output"
        output.mkdir()
        configuration = _configuration(level, skip_shape_inference=skip_shape_inference)
        optimizer = _optimize(path, checkpoint, output, configuration)
        shutil.rmtree(path.parent)  # onnx loads no external data that has a second name
    if "failed in shape inference" in printed.getvalue():
        logger.warning("ONNX Runtime could not infer shapes: fewer operators are fused")
    result = output / path.name
    settle_external_data(result)
    settings: dict[str, Any] = {
        "level": level,
        "optimizer": optimizer,
        "raw_attention_mask": True,
        "skip_shape_inference": skip_shape_inference,
    }
    return artifact.after(result, "optimize", settings, time.perf_counter() - started)


def _work_copy(path: Path, folder: Path) -> Path:
    # ORTOptimizer deletes its input's external data, so it gets links of its own.
    folder.mkdir(parents=True)
    for file in graph_files(path):
        link_or_copy(file, folder / file.name)
    return folder / path.name


def _configuration(level: int, *, skip_shape_inference: bool) -> Any:
    from optimum.onnxruntime import OptimizationConfig

    return OptimizationConfig(
        optimization_level=level,
        use_raw_attention_mask=True,
        disable_shape_inference=skip_shape_inference,
    )


def _optimize(path: Path, checkpoint: Checkpoint, output: Path, configuration: Any) -> str:
    import onnxruntime
    from onnxruntime.transformers.optimizer import optimize_model
    from optimum.onnxruntime import ORTOptimizer
    from transformers import AutoConfig

    onnxruntime.set_default_logger_severity(3)
    config = AutoConfig.from_pretrained(
        checkpoint.backbone, trust_remote_code=checkpoint.trust_remote_code
    )
    try:
        ORTOptimizer([path], config).optimize(configuration, save_dir=output, file_suffix="")
    except NotImplementedError:
        logger.info("ORTOptimizer does not know this architecture: no fused attention")
        level = configuration.optimization_level
        model = optimize_model(str(path), opt_level=level, only_onnxruntime=True)
        external = len(graph_files(path)) > 1
        model.save_model_to_file(str(output / path.name), use_external_data_format=external)
        return "onnxruntime.transformers.optimizer, ONNX Runtime's optimizations only"
    return "ORTOptimizer"
