"""Embedding tables of 8-bit rows, by standard operators alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from retort.graphs.constant_weights import (
    Array,
    ConstantWeights,
    add_initializer,
    drop_unused,
    replace_nodes,
)

SMALLEST_TABLE = 4096  # values; smaller tables, such as token types, save nothing
ROWS_AT_ONCE = 8192


def quantize_tables(model: onnx.ModelProto, block_size: int) -> int:
    """Store the tables whose rows are looked up in 8 bits, with a scale for each block of a row.

    A row becomes a Gather of its 8 bits, a Gather of its scales, and their product: operators that
    every runtime has.

    Args:
        model: The graph, in fp32 or float16; changed in place.
        block_size: How many values of a row share a scale; where it does not divide the row, all.

    Returns:
        How many look-ups read such a table.
    """
    tables, stored = ConstantWeights(model.graph), dict[str, list[str]]()
    replaced = 0

    def look_up(node: NodeProto) -> Sequence[NodeProto]:
        nonlocal replaced
        if node.op_type != "Gather" or any(a.name == "axis" and a.i for a in node.attribute):
            return [node]
        table = tables.find(node.input[0])
        if table is None or table.values.size < SMALLEST_TABLE:
            return [node]
        replaced += 1
        if table.name not in stored:
            stored[table.name] = _store(model.graph, table.name, table.values, block_size)
        return _rows(node, stored[table.name], _type_of(table.values))

    replace_nodes(model.graph, look_up)
    if replaced:
        drop_unused(model.graph)
    return replaced


def _store(graph: onnx.GraphProto, name: str, table: Array, block_size: int) -> list[str]:
    rows, width = table.shape
    size = block_size if width % block_size == 0 else width
    numbers = np.empty((rows, width // size, size), np.int8)
    scales = np.empty((rows, width // size, 1), table.dtype)
    for start in range(0, rows, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        blocks = table[part].astype(np.float32).reshape(-1, width // size, size)
        largest = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(table.dtype)
        largest[largest == 0] = 1
        scales[part] = largest
        numbers[part] = np.rint(blocks / largest.astype(np.float32)).clip(-127, 127)
    return [
        add_initializer(graph, f"{name}_rows", numbers),
        add_initializer(graph, f"{name}_row_scales", scales),
        add_initializer(graph, f"{name}_width", np.array([width], np.int64)),
    ]


def _rows(node: NodeProto, stored: Sequence[str], kind: int) -> list[NodeProto]:
    rows, scales, width = stored
    ids, output = node.input[1], node.output[0]
    own = {part: f"{output}_{part}" for part in ("bytes", "wide", "scales", "blocks", "ids", "as")}
    return [
        helper.make_node("Gather", [rows, ids], [own["bytes"]], name=f"{node.name}_bytes"),
        helper.make_node("Cast", [own["bytes"]], [own["wide"]], name=f"{node.name}_wide", to=kind),
        helper.make_node("Gather", [scales, ids], [own["scales"]], name=f"{node.name}_scales"),
        helper.make_node(
            "Mul", [own["wide"], own["scales"]], [own["blocks"]], name=f"{node.name}_blocks"
        ),
        helper.make_node("Shape", [ids], [own["ids"]], name=f"{node.name}_ids"),
        helper.make_node(
            "Concat", [own["ids"], width], [own["as"]], name=f"{node.name}_as", axis=0
        ),
        helper.make_node("Reshape", [own["blocks"], own["as"]], [output], name=node.name),
    ]


def _type_of(values: Array) -> int:
    return TensorProto.FLOAT16 if values.dtype == np.float16 else TensorProto.FLOAT
