"""How large the values inside a graph become, observed on made-up inputs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from retort.artifact import graph_files
from retort.graphs.float16_limits import LARGEST_HALF, soften_masks
from retort.graphs.made_up_inputs import made_up_inputs
from retort.graphs.session import open_session
from retort.graphs.value_types import float_values
from retort.output.output_folder import link_or_copy

logger = logging.getLogger(__name__)

# Real texts may show values this many times as large as made-up ones.
MARGIN = 4
FLAT, NOTHING = "magnitude_flat", "magnitude_of_nothing"


def large_values(path: Path, folder: Path) -> set[str]:
    """Return the names of the values that float16 may not hold, subgraphs' values included.

    Args:
        path: An fp32 graph; not changed.
        folder: A folder to make, and to remove, for a copy that tells the magnitudes.
    """
    model = onnx.load(str(path), load_external_data=False)
    soften_masks(model)
    names = _watch(model.graph, float_values(model.graph))
    folder.mkdir()
    try:
        copy = folder / path.name
        onnx.save(model, str(copy))
        del model
        for data in graph_files(path)[1:]:
            link_or_copy(data, folder / data.name)
        return _observed(copy, names)
    except Exception as error:  # ONNX Runtime's errors have no class in common
        reason = " ".join(str(error).split())
        logger.warning(
            "%s does not run on made-up inputs, so nobody looked whether float16 holds its values "
            "(%s)",
            path.name,
            reason,
        )
        return set()
    finally:
        shutil.rmtree(folder)


def _observed(path: Path, names: Mapping[str, Sequence[str]]) -> set[str]:
    session = open_session(path, arena=False)
    inputs = made_up_inputs(session, path)
    limit = LARGEST_HALF / MARGIN
    return {
        name
        for output, magnitudes in zip(names, session.run(list(names), inputs), strict=True)
        for name, magnitude in zip(names[output], magnitudes, strict=False)
        if not magnitude <= limit
    }


def _watch(graph: onnx.GraphProto, floats: set[str]) -> dict[str, list[str]]:
    """Add outputs with the magnitudes of a graph's values; return the values' names by output.

    An If gives those of both its branches, zeros for the branch that was not taken.
    """
    outputs = {"magnitudes": _made(graph, floats)}
    choices = [node for node in graph.node if node.op_type == "If"]
    _add_output(graph, "magnitudes", _magnitudes(graph, outputs["magnitudes"]))
    for constant in (np.array([-1]), np.zeros(1, np.float32)):
        name = FLAT if constant.dtype == np.int64 else NOTHING
        graph.initializer.append(numpy_helper.from_array(constant, name))
    for node in choices:
        branches = [attribute.g for attribute in node.attribute]
        values = [_made(branch, floats) for branch in branches]
        output = f"magnitudes_of_{node.output[0]}"
        for place, branch in enumerate(branches):
            parts = [[NOTHING] * len(names) for names in values]
            parts[place] = _magnitudes(branch, values[place])
            _add_output(branch, f"{output}_{place}", [part for own in parts for part in own])
        node.output.append(output)
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
        outputs[output] = [name for names in values for name in names]
    return outputs


def _made(graph: onnx.GraphProto, floats: set[str]) -> list[str]:
    return [
        name
        for node in graph.node
        for name in node.output
        if name in floats and node.op_type not in {"Constant", "If", "Loop", "Scan"}
    ]


def _magnitudes(graph: onnx.GraphProto, names: Sequence[str]) -> list[str]:
    """Add the nodes that give each value's magnitude ``[1]``, 0 for a value without elements."""
    results = []
    for name in names:
        flat, filled, absolute, result = (f"{name}_magnitude_{number}" for number in range(4))
        graph.node.extend(
            [
                helper.make_node("Reshape", [name, FLAT], [flat]),
                helper.make_node("Concat", [flat, NOTHING], [filled], axis=0),
                helper.make_node("Abs", [filled], [absolute]),
                helper.make_node("ReduceMax", [absolute], [result], keepdims=1),
            ]
        )
        results.append(result)
    return results


def _add_output(graph: onnx.GraphProto, name: str, parts: Sequence[str]) -> None:
    graph.node.append(helper.make_node("Concat", [*parts, NOTHING], [name], axis=0))
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
