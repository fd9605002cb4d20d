"""Outlier channels made as small as the others, before activations get one scale for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import helper

from retort.recipes.absorb import absorbing_edits
from retort.recipes.balance import WEIGHT_SHARE, balanced_scales
from retort.recipes.calibration import Activations
from retort.recipes.duplicate import duplicating_edits
from retort.recipes.graph_view import GraphView
from retort.recipes.products import Group
from retort.recipes.ranges import quantized_rows, signed_weight
from retort.recipes.rounding import paired_order

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

OUTLIERS = (16.0, 8.0, 6.0, 4.0, 3.0, 2.5, 2.0, 1.5)  # times the median channel
WORTH_A_NODE = 0.9  # of the error that remains, for a multiplication that cannot be absorbed
HEADROOM = 1.3  # other texts may go further than the calibration texts did
MOST_DUPLICATES = 0.025  # of the channels: a few channels are all that duplicates help
BLOCK = 16  # columns that integer kernels compute at once


@dataclass(frozen=True)
class Treatment:
    """What is done to the channels of a value.

    Attributes:
        scales: What each channel is divided by, float32 ``[channels]``.
        index: The channels that are there afterwards, int64 ``[channels and duplicates]``.
    """

    scales: Floats
    index: Index

    @property
    def divisors(self) -> Floats:
        """What each of the channels afterwards is divided by."""
        return self.scales[self.index]

    @property
    def copies(self) -> Floats:
        """How many times each channel is there afterwards, float32 ``[channels]``."""
        return np.bincount(self.index, minlength=len(self.scales)).astype(np.float32)

    @property
    def factors(self) -> Floats:
        """What the weight's row of each of the channels afterwards is multiplied by."""
        return (self.scales / self.copies)[self.index].astype(np.float32)

    def of_activations(self, activations: Activations) -> Activations:
        """Return what the activations are afterwards."""
        return activations.taken(self.index).divided(self.divisors)

    def of_weight(self, weight: Floats) -> Floats:
        """Return the weight, float32 ``[rows, columns]``, that makes up for it."""
        return weight[self.index] * self.factors[:, None]


@dataclass(frozen=True)
class Equalised:
    """A group of products after its activations were equalised.

    Attributes:
        group: The products, of which each input is now ``input``.
        activations: What the input is on the calibration texts.
        error: How far off its products are in 8 bits, relative to their size.
    """

    group: Group
    activations: Activations
    error: float


def equalise(
    view: GraphView,
    groups: tuple[Group, ...],
    found: Mapping[str, Activations],
    *,
    split: bool = True,
) -> tuple[Equalised, ...]:
    """Divide the outlier channels of each group's activations, and multiply its weights by as much.

    The graph computes the same as before. The division is done by constants where there are such,
    else by a node. SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) does it for all channels; here
    only what is above some multiple of the median channel is divided, down to it, and the multiple
    is the one that leaves the smallest error; from there the scales are balanced channel by channel
    where that leaves less. With ``split``, the most divided channels are duplicated where that
    costs nothing but columns, so that the weight's rows need not grow, and put in the order that
    ``paired_order`` asks for.

    Args:
        view: The graph; changed.
        groups: Its products.
        found: The activations that they read.
        split: Whether channels may be duplicated.
    """
    return tuple(
        _equalise_group(view, group, found[group.input], split=split)
        for group in groups
        if group.input in found
    )


def _equalise_group(
    view: GraphView, group: Group, activations: Activations, *, split: bool
) -> Equalised:
    weight = np.concatenate([view.constant(p.weight) for p in group.products], axis=1)
    whole = np.arange(len(weight))
    untouched = Treatment(np.ones(len(weight), np.float32), whole)
    plain = _error(activations, weight, untouched)
    consumers = view.consumers()
    if any(len(consumers[product.weight]) > 1 for product in group.products):
        return Equalised(group, activations, plain)
    readers = frozenset(product.node for product in group.products)
    split = split and duplicating_edits(view, group.input, whole, readers) is not None
    tried = [_treatment(activations, multiple, split=split) for multiple in OUTLIERS]
    errors = [_error(activations, weight, one) for one in tried]
    tried.append(_balanced(activations, weight, tried[int(np.argmin(errors))]))
    errors.append(_error(activations, weight, tried[-1]))
    chosen = tried[int(np.argmin(errors))]
    free = absorbing_edits(view, group.input, chosen.scales, readers) is not None
    if min(errors) > (1.0 if free else WORTH_A_NODE) * plain:
        return Equalised(group, activations, plain)
    if split:
        order = paired_order(chosen.of_weight(weight))
        chosen = Treatment(chosen.scales, chosen.index[order])
    name = _apply(view, group, chosen)
    treated = chosen.of_activations(activations)
    return Equalised(Group(name, group.products), treated, min(errors))


def _treatment(activations: Activations, multiple: float, *, split: bool) -> Treatment:
    largest = HEADROOM * activations.largest
    limit = max(multiple * float(np.median(activations.largest)), 1e-12)
    scales = np.maximum(1.0, largest / limit).astype(np.float32)
    index = np.arange(len(scales))
    if not split or not (scales > 1).any():
        return Treatment(scales, index)
    most = max(int(MOST_DUPLICATES * len(scales)) // BLOCK, 1) * BLOCK
    order = np.argsort(-scales, kind="stable")
    copies = np.ceil(scales[order]).astype(int) - 1
    duplicates = np.repeat(order, copies)
    wanted = min(-(-len(duplicates) // BLOCK) * BLOCK, most)
    # Up to a whole block, the next channels get a duplicate too: it costs nothing.
    spare = np.concatenate([duplicates, order[copies == 0]])
    return Treatment(scales, np.concatenate([index, spare[:wanted]]))


def _balanced(activations: Activations, weight: Floats, start: Treatment) -> Treatment:
    scales = balanced_scales(activations, weight, start.scales, start.copies)
    return Treatment(scales, start.index)


def _error(activations: Activations, weight: Floats, treatment: Treatment) -> float:
    after = treatment.of_activations(activations)
    rows, changed = after.rows, treatment.of_weight(weight)
    exact = rows @ changed
    by_activations = (quantized_rows(after) - rows) @ changed
    by_weight = rows @ (signed_weight(changed) - changed)
    lost = np.square(by_activations).sum() + WEIGHT_SHARE * np.square(by_weight).sum()
    return float(lost / max(float(np.square(exact).sum()), 1e-12))


def _apply(view: GraphView, group: Group, treatment: Treatment) -> str:
    """Change the graph, and return the name of the value that the products read now."""
    readers = frozenset(product.node for product in group.products)
    for product in group.products:
        view.add_constant(product.weight, treatment.of_weight(view.constant(product.weight)))
    if not np.array_equal(treatment.index, np.arange(len(treatment.scales))):
        more = duplicating_edits(view, group.input, treatment.index, readers)
        for constant, values in (more or {}).items():
            view.add_constant(constant, values)
    edits = absorbing_edits(view, group.input, treatment.divisors, readers)
    for constant, values in (edits or {}).items():
        view.add_constant(constant, values.astype(np.float32))
    return group.input if edits is not None else _insert_division(view, group, treatment.divisors)


def _insert_division(view: GraphView, group: Group, divisors: Floats) -> str:
    name = f"{group.input}_equalised"
    factors = view.add_constant(f"{name}_factors", (1 / divisors).astype(np.float32))
    node = helper.make_node("Mul", [group.input, factors], [name], f"{name}_Mul")
    readers = {product.node for product in group.products}
    at = next(index for index, one in enumerate(view.nodes) if one.name in readers)
    for one in view.nodes:
        if one.name in readers:
            one.input[0] = name
    view.nodes.insert(at, node)
    return name
