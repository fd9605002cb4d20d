"""Graphs that any tool may have made: what must hold before anything is done with one."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

from retort.errors import InputError
from retort.graphs.external_data import range_of, read_outline
from retort.graphs.onnx_file import nodes_of, tensors_of
from retort.json_files import refuse_lfs_pointer

QUANTIZED_OPERATORS = frozenset(
    {
        "BitLinear", "ConvInteger", "DequantizeLinear", "DynamicQuantizeLSTM",
        "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "GatherBlockQuantized", "MatMulBnb4",
        "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "QAttention",
        "QEmbedLayerNormalization", "QGemm", "QLinearConv", "QLinearMatMul",
        "QOrderedMatMul", "QuantizeLinear",
    }
)  # fmt: skip
HALF = "16-bit weights"
HALVES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph without its external data.

    Raises:
        InputError: If there is no such file, or it is not ONNX.
    """
    return _read(path, _parsed)


def read_whole_outline(path: Path) -> onnx.ModelProto:
    """Read a graph's outline, without weights from anywhere, all of which must be there.

    Raises:
        InputError: If the graph cannot be read, or external data is missing or cut short.
    """
    outline = _read(path, read_outline)
    _check_external_data(path, outline)
    return outline


def _read(path: Path, parse: Callable[[Path], onnx.ModelProto]) -> onnx.ModelProto:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give an .onnx file")
    refuse_lfs_pointer(path)
    try:
        model = parse(path)
    except (DecodeError, ValueError) as error:  # an empty file cannot be mapped
        raise InputError(f"{path}: not an ONNX file, or cut short; make it again") from error
    if not (model.ir_version and model.opset_import and model.graph.node):
        raise InputError(f"{path}: not an ONNX file, or one without nodes; make it again")
    return model


def _parsed(path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    # Mapped, not read: with its weights inside, a graph need not be in memory twice.
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        model.ParseFromString(content)
    return model


def _check_external_data(path: Path, model: onnx.ModelProto) -> None:
    try:
        needed = external_data(model)
    except ValueError as error:
        raise InputError(f"{path}: says wrongly where its tensors are ({error})") from error
    for name, length in needed.items():
        file = path.parent / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path}: its external data {name} leads out of its folder")
        if not file.is_file():
            raise InputError(f"{path}: its external data {name} is missing; put it beside the file")
        if file.stat().st_size < length:
            raise InputError(f"{path}: its external data {name} is cut short; copy it again")


def external_data(model: onnx.ModelProto) -> Mapping[str, int]:
    """Return the names of a graph's external data files, and how many bytes each must have."""
    needed: dict[str, int] = {}
    for tensor in tensors_of(model):
        if uses_external_data(tensor):
            found = range_of(tensor, Path())
            name = found.file.as_posix()
            needed[name] = max(needed.get(name, 0), found.offset + found.length)
    return needed


def quantized_by(model: onnx.ModelProto) -> str:
    """Return what shows that a graph has less than 32 bits: an operator, or "16-bit weights".

    Returns:
        An empty string for an fp32 graph.
    """
    operators = sorted({node.op_type for node in nodes_of(model.graph)} & QUANTIZED_OPERATORS)
    halves = any(
        tensor.data_type in HALVES and len(tensor.dims) > 1 for tensor in tensors_of(model)
    )
    return operators[0] if operators else HALF if halves else ""


def precision_of(model: onnx.ModelProto) -> str:
    """Return ``fp32``, ``fp16``, or how many bits a graph's smallest weights have: ``8 bits``."""
    shown = quantized_by(model)
    if shown in ("", HALF):
        return "fp16" if shown else "fp32"
    nodes = [node for node in nodes_of(model.graph) if node.op_type in QUANTIZED_OPERATORS]
    return f"{min(map(_bits, nodes))} bits"


def _bits(node: onnx.NodeProto) -> int:
    told = [attribute.i for attribute in node.attribute if attribute.name == "bits"]
    usual = 4 if node.op_type in ("MatMulBnb4", "MatMulNBits") else 8
    return told[0] if told else usual
