"""The 8-bit graph: products in integers, their activations quantized by ranges or as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper
from tqdm import tqdm

from retort.recipes.attention import join_attention
from retort.recipes.calibration import Activations
from retort.recipes.equalise import Equalised
from retort.recipes.graph_view import MICROSOFT, GraphView, attribute
from retort.recipes.products import Group, Product
from retort.recipes.ranges import Range, range_of
from retort.recipes.rounding import channel_scales, round_by_error, round_nearest

Floats = npt.NDArray[np.float32]

SMALLEST_ROW = 0.01  # of the mean size: no row counts more than a hundred


@dataclass(frozen=True)
class Rounding:
    """How weights become 8 bits.

    Attributes:
        by_error: Whether rounding errors make up for each other (GPTQ), or each is the smallest.
        pairs: Whether sums of two products must fit 16 bits.
        signed: Signed weights, or the same shifted to be unsigned.
    """

    by_error: bool
    pairs: bool
    signed: bool


def quantize_products(
    view: GraphView,
    groups: Sequence[Equalised],
    rounding: Rounding,
    *,
    static: bool,
    progress: bool = False,
) -> None:
    """Put each group's products into integers, in place.

    Args:
        view: The graph, whose groups were equalised.
        groups: The groups to change; others stay in fp32.
        rounding: How weights become 8 bits.
        static: Whether activations have the range of the calibration texts, or each batch its own.
        progress: Whether to draw a progress bar.
    """
    made: dict[str, list[NodeProto]] = {}
    for one in tqdm(groups, desc="round weights", unit="group", disable=not progress):
        values = range_of(one.activations) if static else None
        first = True
        for product in one.group.products:
            nodes = _quantizer(view, one.group, values) if first else []
            nodes.append(_integer_product(view, one, product, rounding, values))
            made[product.node] = nodes
            if product.absorbed:
                made[product.absorbed] = []
            first = False
    view.replace(made)
    join_attention(view)


def _quantizer(view: GraphView, group: Group, values: Range | None) -> list[NodeProto]:
    name = group.input
    integers, scale, zero = (f"{name}_{part}" for part in ("integers", "scale", "zero_point"))
    if values is None:
        outputs = [integers, scale, zero]
        return [helper.make_node("DynamicQuantizeLinear", [name], outputs, f"{name}_quantize")]
    view.add_constant(scale, np.array(values.scale, np.float32))
    view.add_constant(zero, np.array(values.zero_point, np.uint8))
    return [helper.make_node("QuantizeLinear", [name, scale, zero], [integers], f"{name}_quantize")]


def _integer_product(
    view: GraphView, one: Equalised, product: Product, rounding: Rounding, values: Range | None
) -> NodeProto:
    weight = view.constant(product.weight)
    moments = one.activations.moments
    scales = channel_scales(weight, np.diagonal(moments), pairs=rounding.pairs)
    if rounding.by_error:
        rounded = round_by_error(weight, scales, moments, pairs=rounding.pairs)
    else:
        rounded = round_nearest(weight, scales, pairs=rounding.pairs)
    bias = view.constant(product.bias) if product.bias else np.zeros(weight.shape[1], np.float32)
    if values is not None:
        bias = bias - _mean_error(one.activations, values, weight, rounded * scales)
    name, group = product.node, one.group.input
    inputs = [
        f"{group}_integers",
        view.add_constant(f"{name}_weight", rounded if rounding.signed else _unsigned(rounded)),
        f"{group}_scale",
        view.add_constant(f"{name}_weight_scale", scales),
        f"{group}_zero_point",
        "" if rounding.signed
        else view.add_constant(f"{name}_weight_zero_point", np.array(128, np.uint8)),
        view.add_constant(f"{name}_bias", bias.astype(np.float32)),
    ]  # fmt: skip
    return helper.make_node(
        "MatMulIntegerToFloat", inputs, [product.output], f"{name}_integer", domain=MICROSOFT
    )


def _unsigned(rounded: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    return (rounded.astype(np.int16) + 128).astype(np.uint8)


def _mean_error(activations: Activations, values: Range, weight: Floats, rough: Floats) -> Floats:
    """Return what 8 bits add to each column on average, which the bias takes off.

    Rows count by the inverse of their size, as they do in a cosine; otherwise the errors of the
    few largest would be taken off all.
    """
    rows = activations.rows
    exact = rows @ weight
    sizes = np.square(exact).sum(axis=1)
    shares = 1 / np.maximum(sizes, SMALLEST_ROW * sizes.mean() + 1e-12)
    return np.asarray(shares / shares.sum() @ (values.rough(rows) @ rough - exact))


def quantize_tables(view: GraphView, least_bytes: int = 1 << 16) -> int:
    """Write embedding tables in 8 bits with one scale a row, in place; return how many.

    Args:
        view: The graph.
        least_bytes: Smaller tables stay in fp32.
    """
    made: dict[str, list[NodeProto]] = {}
    readers: Mapping[str, list[NodeProto]] = view.consumers()
    for node in view.nodes:
        table = node.input[0] if node.op_type == "Gather" else ""
        if not (table and view.is_float_table(table)) or attribute(node, "axis", 0):
            continue
        if 4 * np.prod(view.shape(table)) >= least_bytes and len(readers[table]) == 1:
            made[node.name] = _integer_table(view, node)
    view.replace(made)
    return len(made)


def _integer_table(view: GraphView, node: NodeProto) -> list[NodeProto]:
    table = view.constant(node.input[0])
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
    name, ids = node.name, node.input[1]
    rows = view.add_constant(f"{name}_rows", np.rint(table / scales).astype(np.int8))
    factors = view.add_constant(f"{name}_scales", scales.astype(np.float32))
    return [
        helper.make_node("Gather", [rows, ids], [f"{name}_integers"], f"{name}_integers"),
        helper.make_node("Cast", [f"{name}_integers"], [f"{name}_floats"], f"{name}_floats", to=1),
        helper.make_node("Gather", [factors, ids], [f"{name}_factors"], f"{name}_factors"),
        helper.make_node("Mul", [f"{name}_floats", f"{name}_factors"], list(node.output), name),
    ]
