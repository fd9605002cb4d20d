"""Quantize one graph file, whoever made it; ``retort quantize`` and ``colbert-quantize``."""

from __future__ import annotations

import logging
from pathlib import Path

from retort.artifact import Artifact, graph_bytes
from retort.errors import ConversionError
from retort.found_file import find_file
from retort.graphs.found_graph import quantized_by, read_graph
from retort.made_file import make_file, with_settings
from retort.stages.quantize import QuantizeSettings, quantize

logger = logging.getLogger(__name__)


def quantize_file(
    graph: Path, settings: QuantizeSettings, output: Path, *, force: bool = False
) -> Path:
    """Write one precision of a graph to a file of its own, whole or not at all.

    In a folder that Retort made, ``conversion.json``, the page and the card tell of the new file.

    Args:
        graph: An fp32 ``.onnx`` file, portable or fused, made by any tool.
        settings: The precision and how it is made.
        output: The ``.onnx`` file to make; other names of the bytes it had keep them.
        force: Whether to replace an existing file.

    Returns:
        The file that was made.

    Raises:
        InputError: If the graph is not ONNX, not whole, or quantized already, or the output may
            not be written.
        ConversionError: If the graph cannot be quantized, or the result not be written.
    """
    found = find_file(graph)
    found.refuse_quantized()

    def stage(artifact: Artifact, folder: Path) -> Artifact:
        made = quantize(artifact, settings, folder)
        if not quantized_by(read_graph(made.path)):
            raise ConversionError(
                f"{found.path}: nothing in it could be made {settings.precision}; it has no "
                "MatMul, Gather or Attention with fp32 weights"
            )
        return with_settings(made, {"from": found.path.name})

    before = found.bytes / 1e6
    after = graph_bytes(make_file(found, output, stage, force=force).path) / 1e6
    told = (found.path.name, before, output.name, after, before / after)
    logger.info("%s, %.1f MB → %s, %.1f MB (%.1f times smaller)", *told)
    return output
