"""What a graph file says of itself, for people and as JSON; its weights are not looked at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from retort.graphs.found_graph import external_data, quantized_by, read_graph
from retort.graphs.onnx_file import FUSED_OPERATORS, STANDARD_DOMAIN, nodes_of

STANDARD_NAMES = frozenset({STANDARD_DOMAIN, "ai.onnx"})
TYPE_NAMES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class ValueFacts:
    """An input or output.

    Attributes:
        name: Its name.
        type: Its element type, such as ``int64``.
        shape: Its axes: a length, a name where it is dynamic, None where nothing is said of it;
            None in place of all where not even their number is.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        """Return the type and shape as text."""
        if self.shape is None:
            return f"{self.type} of any shape"
        axes = ("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.type} [{', '.join(axes)}]"


@dataclass(frozen=True)
class GraphFacts:
    """A graph file.

    Attributes:
        file: Its path.
        also: Further paths of the same bytes.
        bytes: The size of the ``.onnx`` file.
        external_data: The sizes of the files that hold its tensors, None for a missing one.
        ir_version: The version of the file format.
        opsets: The operator sets it imports, by domain; the standard one is ``ai.onnx``.
        producer: The program that wrote it, as it says.
        metadata: Its ``metadata_props``.
        inputs: What it takes.
        outputs: What it gives.
        nodes: How many nodes it has, subgraphs included.
        operators: How often each operator occurs; those of other domains are ``domain.name``.
        fused_operators: Those of them that stand for several standard operators.
        initializers: How many tensors it holds.
        parameters: How many values they have, by type.
        quantized_by: What shows that it has less than 32 bits; empty: nothing.
    """

    file: str
    also: tuple[str, ...]
    bytes: int
    external_data: Mapping[str, int | None]
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    metadata: Mapping[str, str]
    inputs: tuple[ValueFacts, ...]
    outputs: tuple[ValueFacts, ...]
    nodes: int
    operators: Mapping[str, int]
    fused_operators: Mapping[str, int]
    initializers: int
    parameters: Mapping[str, int]
    quantized_by: str

    def as_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return asdict(self)

    def table(self) -> str:
        """Return the facts as indented lines for a terminal."""
        return "\n".join([self.file, *(f"  {line}" for line in self._lines())])

    def _lines(self) -> Iterator[str]:
        for name in self.also:
            yield f"also named      {name}"
        yield f"size            {_megabytes(self.bytes)}"
        for name, size in self.external_data.items():
            yield f"external data   {name}, {'MISSING' if size is None else _megabytes(size)}"
        yield f"IR version      {self.ir_version}"
        yield f"opsets          {_listed(self.opsets, ' ')}"
        yield f"producer        {self.producer or 'not said'}"
        yield from _block("metadata", self.metadata)
        yield from _block("inputs", {value.name: str(value) for value in self.inputs})
        yield from _block("outputs", {value.name: str(value) for value in self.outputs})
        parameters = {name: f"{count:,}" for name, count in self.parameters.items()}
        yield f"initializers    {self.initializers}: {_listed(parameters, ' ') or 'no values'}"
        yield f"quantized       {f'yes ({self.quantized_by})' if self.quantized_by else 'no'}"
        yield f"fused operators {_listed(self.fused_operators, '×') or 'none'}"
        yield f"nodes           {self.nodes}"
        yield from _block("operators", {name: str(n) for name, n in self.operators.items()})


def graph_facts(path: Path, also: Iterable[Path] = ()) -> GraphFacts:
    """Read what a graph's file says of itself.

    Args:
        path: The ``.onnx`` file; its external data need not be there.
        also: Further paths of the same bytes.

    Raises:
        InputError: If there is no such file, or it is not ONNX.
    """
    model = read_graph(path)
    files = {name: path.parent / name for name in external_data(model)}
    inside = {tensor.name for tensor in model.graph.initializer}
    operators = Counter(map(_operator, nodes_of(model.graph)))
    fused = {
        name: count
        for name, count in sorted(operators.items())
        if "." in name and name.rpartition(".")[2] in FUSED_OPERATORS
    }
    parameters: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        parameters[_type_name(tensor.data_type)] += math.prod(tensor.dims)
    return GraphFacts(
        file=str(path),
        also=tuple(str(name) for name in also),
        bytes=path.stat().st_size,
        external_data={
            name: file.stat().st_size if file.is_file() else None for name, file in files.items()
        },
        ir_version=model.ir_version,
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        inputs=tuple(_value(v) for v in model.graph.input if v.name not in inside),
        outputs=tuple(map(_value, model.graph.output)),
        nodes=operators.total(),
        operators=dict(operators.most_common()),
        fused_operators=fused,
        initializers=len(model.graph.initializer),
        parameters=dict(parameters.most_common()),
        quantized_by=quantized_by(model),
    )


def _operator(node: onnx.NodeProto) -> str:
    standard = node.domain in STANDARD_NAMES
    return node.op_type if standard else f"{node.domain}.{node.op_type}"


def _value(value: onnx.ValueInfoProto) -> ValueFacts:
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "unknown type"
        return ValueFacts(value.name, kind.removesuffix("_type"), None)
    tensor = value.type.tensor_type
    shape = tuple(map(_axis, tensor.shape.dim)) if tensor.HasField("shape") else None
    return ValueFacts(value.name, _type_name(tensor.elem_type), shape)


def _axis(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None


def _type_name(kind: int) -> str:
    name = TensorProto.DataType.Name(kind).lower()
    return TYPE_NAMES.get(name, name)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB ({size:,} bytes)"


def _listed(values: Mapping[str, object], between: str) -> str:
    return ", ".join(f"{name}{between}{value}" for name, value in values.items())


def _block(title: str, rows: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, rows), default=0)
    yield f"{title}" if rows else f"{title.ljust(15)} none"
    for name, value in rows.items():
        yield f"  {name.ljust(width)}  {value}"
