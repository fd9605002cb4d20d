"""Reading and settling ONNX files: headers, operators, external data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from retort.output.output_folder import link_or_copy
from retort.talk import doing

MAXIMUM_IR = 9
STANDARD_DOMAIN = ""
LARGEST_SINGLE_FILE = 2_000_000_000  # bytes; protobuf ends at 2 GiB
FUSED_OPERATORS = frozenset(
    {
        "Attention", "BiasGelu", "BiasSplitGelu", "EmbedLayerNormalization", "FastGelu",
        "FusedMatMul", "Gelu", "GemmFastGelu", "GroupQueryAttention", "MultiHeadAttention",
        "QAttention", "QuickGelu", "RotaryEmbedding", "SimplifiedLayerNormalization",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    }
)  # fmt: skip


@dataclass(frozen=True)
class GraphSummary:
    """What a graph's file says of itself."""

    opset: int
    ir_version: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fused_operators: Mapping[str, int]


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of a graph and of the subgraphs inside its nodes."""
    for part in graphs_of(graph):
        yield from part.node


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the subgraphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from graphs_of(inner)


def summarize(path: Path) -> GraphSummary:
    """Read a graph's header, its inputs and outputs, and its fused operators."""
    model = onnx.load(str(path), load_external_data=False)
    operators = Counter(
        node.op_type
        for node in nodes_of(model.graph)
        if node.op_type in FUSED_OPERATORS and node.domain != STANDARD_DOMAIN
    )
    return GraphSummary(
        opset=next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        ir_version=model.ir_version,
        nodes=sum(1 for _ in nodes_of(model.graph)),
        inputs=tuple(value.name for value in model.graph.input),
        outputs=tuple(value.name for value in model.graph.output),
        fused_operators=dict(sorted(operators.items())),
    )


def settle_header(source: Path, target: Path, metadata: Mapping[str, str]) -> None:
    """Write ``source`` to ``target`` with a header that every runtime reads.

    The IR version is at most 9 (ONNX Runtime 1.17 rejects 10), opset imports that no node uses
    are dropped (it rejects ``ai.onnx.ml`` 5), and ``metadata`` becomes ``metadata_props``.
    External data gets a second name, ``<target>_data``.
    """
    model = onnx.load(str(source), load_external_data=False)
    model.ir_version = min(model.ir_version, MAXIMUM_IR)
    used = {node.domain for node in nodes_of(model.graph)} | {STANDARD_DOMAIN}
    used |= {node.domain for function in model.functions for node in function.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.helper.set_model_props(model, dict(metadata))
    data = [Path(name) for name in external_files(model)]
    point_external_data(model, {name.name: f"{target.name}_data" for name in data})
    onnx.save(model, str(target))
    for name in data:
        beside = target.parent / f"{target.name}_data"
        link_or_copy(source.parent / name, beside)
        beside.chmod(target.stat().st_mode)  # onnx makes external data private to its writer


def header_elsewhere(graph: Path, name: Path) -> bytes:
    """Return a graph as it stands under a name further up, pointing at the same external data.

    A second name of the data would not do: onnx refuses to load data with two hard links, since
    through one a graph could reach files outside its folder.
    """
    model = onnx.load(str(graph), load_external_data=False)
    below = graph.parent.relative_to(name.parent)
    point_external_data(model, {file: (below / file).as_posix() for file in external_files(model)})
    return bytes(model.SerializeToString())


def rewrite_graph(path: Path, rewrite: Callable[[onnx.ModelProto], None]) -> None:
    """Change a graph in its file; external data stays where it is, unread."""
    model = onnx.load(str(path), load_external_data=False)
    rewrite(model)
    onnx.save(model, str(path))


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph to ``path``, its tensors to ``<path>_data`` where one file cannot hold them."""
    # Of the whole model, ByteSize fails above 2 GB.
    if sum(tensor.ByteSize() for tensor in tensors_of(model)) < LARGEST_SINGLE_FILE:
        onnx.save(model, str(path))
    else:
        onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}_data")


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with the types and shapes of its values, fused operators included.

    What is declared of its outputs stays.

    Raises:
        ConversionError: If ONNX Runtime's symbolic shape inference fails on the graph.
    """
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    declared = list(model.graph.output)
    with doing("symbolic shape inference (--skip_shape_inference leaves it out)"):
        # Its own static method leaves a copy of the graph in the working folder when it fails.
        inference = SymbolicShapeInference(2**31 - 1, True, False, 0)
        inference._preprocess(model)
        complete = False
        while inference.run_:
            complete = inference._infer_impl()
        inference._update_output_from_vi()
        if not complete:
            raise ValueError("not every shape could be inferred")
    # Inference invents names for the dynamic axes of outputs, which have names already.
    del inference.out_mp_.graph.output[:]
    inference.out_mp_.graph.output.extend(declared)
    return inference.out_mp_


def constant_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of a graph's initializers and constants."""
    names = {tensor.name for tensor in graph.initializer}
    return names | {node.output[0] for node in graph.node if node.op_type == "Constant"}


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield a model's initializers and constants, those of subgraphs and functions included."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of_graph(graph)


def external_files(model: onnx.ModelProto) -> list[str]:
    """Return the names of the files that a model's tensors lie in, each once."""
    files = {
        entry.value: None
        for tensor in tensors_of(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return list(files)


def point_external_data(model: onnx.ModelProto, renamed: Mapping[str, str]) -> None:
    """Change the names of the files that a model's tensors lie in."""
    for tensor in tensors_of(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = renamed.get(entry.value, entry.value)
