"""Put a vision tower into an ``If``, so that a batch without images pays nothing for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx
from onnx import NodeProto, TensorProto, helper

from retort.errors import ConversionError

MERGED = "merged_with_images"
WORDS = "words_alone"


def skip_images(model: onnx.ModelProto, merge: str, images: str) -> None:
    """Move what only the merge of images needs into an ``If`` that asks whether there are any.

    Initializers stay in the outer graph, where quantizers and external data find them.

    Args:
        model: A traced graph; changed in place.
        merge: The name of the ``Where`` node that takes features or words.
        images: The input that is empty where there are no images.

    Raises:
        ConversionError: If there is no such node.
    """
    graph = model.graph
    nodes = list(graph.node)
    at = next((index for index, node in enumerate(nodes) if node.name == merge), None)
    if at is None:
        raise ConversionError(f"the traced graph has no node {merge}; report this as a bug")
    merged, words = nodes[at].output[0], nodes[at].input[2]
    needed_for_images = _ancestors(nodes, [merged], {words})
    outputs = [value.name for value in graph.output]
    needed_anyway = _ancestors(nodes, [*outputs, words], {merged})
    moved = needed_for_images - needed_anyway
    choice = _choice([nodes[index] for index in sorted(moved)], merged, words, images)
    kept = [
        node
        for index, old in enumerate(nodes)
        for node in (choice if index == at else () if index in moved else (old,))
    ]
    fresh = [_copy(node) for node in kept]
    del graph.node[:]
    graph.node.extend(fresh)
    del graph.value_info[:]


def _ancestors(nodes: Sequence[NodeProto], names: Iterable[str], stop: Collection[str]) -> set[int]:
    """Return the positions of the nodes that values depend on, not looking beyond ``stop``."""
    maker = {output: index for index, node in enumerate(nodes) for output in node.output}
    found: set[int] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        index = maker.get(name)
        if name in stop or index is None or index in found:
            continue
        found.add(index)
        waiting.extend(nodes[index].input)
    return found


def _choice(
    moved: Sequence[NodeProto], merged: str, words: str, images: str
) -> tuple[NodeProto, ...]:
    branch = [_copy(node) for node in moved]
    branch[-1].output[0] = MERGED
    unshaped = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (MERGED, WORDS)
    )
    with_images = helper.make_graph(branch, "with_images", [], [next(unshaped)])
    identity = helper.make_node("Identity", [words], [WORDS], name="words_alone")
    without = helper.make_graph([identity], "without_images", [], [next(unshaped)])
    zero = helper.make_tensor("zero", TensorProto.INT64, [], [0])
    return (
        helper.make_node("Size", [images], ["image_values"], name="image_values"),
        helper.make_node("Constant", [], ["no_values"], name="no_values", value=zero),
        helper.make_node("Greater", ["image_values", "no_values"], ["has_images"], name="ask"),
        helper.make_node(
            "If", ["has_images"], [merged], name="images", then_branch=with_images,
            else_branch=without,
        ),
    )  # fmt: skip


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied
