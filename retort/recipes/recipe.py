"""The 8-bit recipes, from the quickest to the most careful, and the graph that each makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import onnx

from retort.errors import ConversionError
from retort.graphs.onnx_file import save_graph
from retort.recipes.calibration import Activations, Tokens, calibrate
from retort.recipes.equalise import Equalised, equalise
from retort.recipes.graph_view import GraphView
from retort.recipes.products import find_groups
from retort.recipes.rewrite import Rounding, quantize_products, quantize_tables
from retort.recipes.spread import load

PLAIN = "plain"


@dataclass(frozen=True)
class Recipe:
    """One way to 8 bits.

    Attributes:
        name: As the report tells it.
        static: Whether activations have the ranges of the calibration texts, or each batch its own.
        split: Whether outlier channels may be duplicated.
        by_error: Whether weights are rounded so that their errors make up for each other (GPTQ).
        kept: The share of the most sensitive groups of products that stays in fp32.
        note: What it does, in a few words.
    """

    name: str
    static: bool = False
    split: bool = False
    by_error: bool = False
    kept: float = 0.0
    note: str = ""


RECIPES = (
    Recipe(PLAIN, note="per channel, ranges of each batch"),
    Recipe("equalised", note="outlier channels divided"),
    Recipe("split", split=True, note="and duplicated"),
    Recipe("static", static=True, split=True, note="ranges of the calibration texts"),
    Recipe("rounded", static=True, split=True, by_error=True, note="weights rounded by GPTQ"),
    Recipe("mixed_10", static=True, split=True, by_error=True, kept=0.1, note="10% left in fp32"),
    Recipe("mixed_25", static=True, split=True, by_error=True, kept=0.25, note="25% left in fp32"),
)
# Static ranges leave batch mates without effect; those of each batch come after them, for texts
# that calibration did not foresee. GPTQ costs nothing at run time: of the two, it comes first.
ORDER = (PLAIN, "rounded", "static", "equalised", "split", "mixed_10", "mixed_25")
LADDERS: Mapping[str, tuple[Recipe, ...]] = {
    "auto": tuple(sorted(RECIPES, key=lambda recipe: ORDER.index(recipe.name))),
    "accurate": tuple(recipe for recipe in RECIPES if recipe.by_error),
    "static": tuple(recipe for recipe in RECIPES if recipe.name == "static"),
}


@dataclass(frozen=True)
class Prepared:
    """An fp32 graph with its products standing by themselves, and what its activations are.

    Attributes:
        path: The graph.
        found: Its activations on the calibration texts, by their names.
    """

    path: Path
    found: Mapping[str, Activations]


def prepare(source: Path, folder: Path, batches: tuple[Tokens, ...], *, progress: bool) -> Prepared:
    """Write a graph as the recipes take it, and run the calibration texts through it.

    Args:
        source: An fp32 graph, portable or fused.
        folder: An empty folder.
        batches: The calibration texts, int64 ``[batch, sequence]`` by input name.
        progress: Whether to draw a progress bar.

    Raises:
        ConversionError: If there is nothing in the graph that 8 bits would speed up.
    """
    view = load(onnx.load(str(source)))
    path = folder / "model.onnx"
    names = [group.input for group in find_groups(view)]
    save_graph(view.rebuilt(), path)
    del view  # a copy of the weights, which calibration has no use for
    if not names:
        raise ConversionError(f"{source.name}: has no product with constant weights; leave it fp32")
    return Prepared(path, calibrate(path, names, batches, progress=progress))


def make_graph(
    prepared: Prepared, recipe: Recipe, output: Path, *, signed: bool, pairs: bool, progress: bool
) -> Mapping[str, float]:
    """Write the 8-bit graph of a recipe other than ``plain``.

    Args:
        prepared: The fp32 graph; not changed.
        recipe: The recipe.
        output: The file to write.
        signed: Whether weights are signed.
        pairs: Whether sums of two products must fit 16 bits.
        progress: Whether to draw a progress bar.

    Returns:
        The error of each group of products in 8 bits, relative, by its activations' name.
    """
    view: GraphView = load(onnx.load(str(prepared.path)))
    groups = equalise(view, find_groups(view), prepared.found, split=recipe.split)
    rounding = Rounding(recipe.by_error, pairs, signed)
    chosen = _least_sensitive(groups, recipe.kept)
    quantize_products(view, chosen, rounding, static=recipe.static, progress=progress)
    quantize_tables(view)
    save_graph(view.rebuilt(), output)
    return {one.group.input: one.error for one in groups}


def _least_sensitive(groups: tuple[Equalised, ...], kept: float) -> tuple[Equalised, ...]:
    """Return all but the share of groups that lose most in 8 bits, in the graph's order."""
    worst = sorted(groups, key=lambda one: one.error, reverse=True)[: ceil(kept * len(groups))]
    names = {one.group.input for one in worst}
    return tuple(one for one in groups if one.group.input not in names)
