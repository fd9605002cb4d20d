"""External data of graphs: tensors go from file to file in blocks, and are never all in memory.

A graph is handled by its outline: the model without its weights, whose larger tensors all say
where in a file their bytes lie, those inside the ``.onnx`` file too. The format is that of
https://github.com/onnx/onnx/blob/main/docs/ExternalData.md.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from retort.errors import InputError
from retort.graphs.onnx_file import (
    LARGEST_SINGLE_FILE,
    external_files,
    point_external_data,
    tensors_of,
)
from retort.graphs.wire_format import (
    NESTED,
    VARINT,
    FileRange,
    Piece,
    change_tensors,
    fields,
    nested,
)

SMALLEST_EXTERNAL = 1024  # shapes and the like stay in the graph, where runtimes look for them
PAGE = 4096
LARGE_TENSOR, LARGE_ALIGNMENT = 1 << 20, 1 << 16  # Windows maps files at multiples of 64 KiB
BLOCK = 1 << 23
# Fields of TensorProto whose packed values are the very bytes of raw_data, with their type.
_RAW_DATA, _DATA_TYPE = TensorProto.RAW_DATA_FIELD_NUMBER, TensorProto.DATA_TYPE_FIELD_NUMBER
_DATA_FIELDS: Mapping[int, int | None] = {
    _RAW_DATA: None,
    TensorProto.FLOAT_DATA_FIELD_NUMBER: TensorProto.FLOAT,
    TensorProto.DOUBLE_DATA_FIELD_NUMBER: TensorProto.DOUBLE,
}
_BITS = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}  # less than a byte
_SMALL_TYPES = {
    number: _BITS[name] for name, number in TensorProto.DataType.items() if name in _BITS
}


def read_outline(path: Path) -> onnx.ModelProto:
    """Read a graph of any size without its weights.

    Tensors of 1 KiB or more that are inside the file become external data in this very file.

    Raises:
        DecodeError: If it is not ONNX, or cut short.
        ValueError: If it is empty.
    """
    with path.open("rb") as stream:
        # Not closed by hand: an error's traceback may still look at it.
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))

    def outlined(content: memoryview, start: int, end: int) -> Iterator[Piece]:
        return _outlined(content, start, end, path.name)

    outline = b"".join(_in_memory(change_tensors(content, outlined)))
    return onnx.ModelProto.FromString(outline)


def range_of(tensor: TensorProto, folder: Path) -> FileRange:
    """Return where the bytes of a tensor with external data lie."""
    info = ExternalDataInfo(tensor)
    length = tensor_bytes(tensor) if info.length is None else info.length
    return FileRange(folder / info.location, info.offset or 0, length)


def tensor_bytes(tensor: TensorProto) -> int:
    """Return how many bytes a tensor's values have by its shape and type."""
    values = math.prod(tensor.dims)
    bits = _SMALL_TYPES.get(tensor.data_type)
    if bits is None:
        return values * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.ceil(values * bits / 8)


def write_merged(model: onnx.ModelProto, folder: Path, target: Path) -> None:
    """Write a model with its weights: one file below 2 GB, else the graph and ``<target>_data``.

    In the data file, each tensor starts at a multiple of 4 KiB, one of 1 MiB or more at a multiple
    of 64 KiB, so that every system can map it. Tensors that share their bytes go on doing so.

    Args:
        model: An outline; changed, so that it tells where its tensors are now.
        folder: Where its external data lie; only read.
        target: The ``.onnx`` file to write; nothing of the input may lie there.

    Raises:
        InputError: If a data file ends too early.
    """
    _take_small_tensors(model, folder)
    ranges = [range_of(tensor, folder) for tensor in tensors_of(model) if _is_external(tensor)]
    if model.ByteSize() + sum(found.length for found in ranges) < LARGEST_SINGLE_FILE:
        _write_in_one(model, folder, target)
    else:
        _write_beside(model, folder, target)


def settle_external_data(path: Path) -> None:
    """Give external data the one name that transformers.js finds: ``<file>_data``.

    ONNX Runtime's tools write ``<file>.data``, and PyTorch a file for each tensor; the references
    inside the graph change with the files, which are moved.
    """
    model = onnx.load(str(path), load_external_data=False)
    names, wanted = external_files(model), f"{path.name}_data"
    if not names or names == [wanted]:
        return
    if len(names) == 1:
        (path.parent / names[0]).rename(path.parent / wanted)
        point_external_data(model, {names[0]: wanted})
        onnx.save(model, str(path))
        return
    merged = path.parent / "merged" / path.name
    merged.parent.mkdir()
    write_merged(read_outline(path), path.parent, merged)
    for name in names:
        (path.parent / name).unlink()
    for file in (merged, merged.with_name(wanted)):
        if file.exists():
            file.rename(path.parent / file.name)
    merged.parent.rmdir()


def _is_external(tensor: TensorProto) -> bool:
    return bool(uses_external_data(tensor))


def _outlined(content: memoryview, start: int, end: int, name: str) -> Iterator[Piece]:
    found = list(fields(content, start, end))
    kind = next((content[f.body] for f in found if f.number == _DATA_TYPE), None)
    data = [
        field
        for field in found
        if field.number in _DATA_FIELDS
        and field.kind == NESTED
        and _DATA_FIELDS[field.number] in (None, kind)
    ]
    location = TensorProto.DATA_LOCATION_FIELD_NUMBER
    external = any(f.number == location and f.kind == VARINT and content[f.body] for f in found)
    if external or len(data) != 1 or data[0].end - data[0].body < SMALLEST_EXTERNAL:
        yield content[start:end]
        return
    (field,) = data
    yield content[start : field.start]
    yield content[field.end : end]
    yield _reference(name, field.body, field.end - field.body).SerializeToString()


def _reference(location: str, offset: int, length: int) -> TensorProto:
    reference = TensorProto(data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        reference.external_data.add(key=key, value=str(value))
    return reference


def _in_memory(pieces: Iterable[Piece]) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        if isinstance(piece, FileRange):
            yield b"".join(_blocks(piece))
        else:
            yield piece


def _take_small_tensors(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in tensors_of(model):
        if _is_external(tensor):
            found = range_of(tensor, folder)
            if found.length < SMALLEST_EXTERNAL:
                _forget_place(tensor)
                tensor.raw_data = b"".join(_blocks(found))


def _forget_place(tensor: TensorProto) -> None:
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def _write_in_one(model: onnx.ModelProto, folder: Path, target: Path) -> None:
    def filled(content: memoryview, start: int, end: int) -> Iterator[Piece]:
        tensor = TensorProto.FromString(bytes(content[start:end]))
        if not _is_external(tensor):
            yield content[start:end]
            return
        found = range_of(tensor, folder)
        _forget_place(tensor)
        yield tensor.SerializeToString()
        yield nested(_RAW_DATA, found.length)
        yield found

    pieces = change_tensors(memoryview(model.SerializeToString()), filled)
    with target.open("xb") as stream:
        for piece in pieces:
            _write(piece, stream)


def _write_beside(model: onnx.ModelProto, folder: Path, target: Path) -> None:
    data = target.with_name(f"{target.name}_data")
    places: dict[FileRange, int] = {}
    with data.open("xb") as stream:
        for tensor in filter(_is_external, tensors_of(model)):
            found = range_of(tensor, folder)
            if found not in places:
                boundary = LARGE_ALIGNMENT if found.length >= LARGE_TENSOR else PAGE
                stream.write(bytes(-stream.tell() % boundary))
                places[found] = stream.tell()
                _write(found, stream)
            _forget_place(tensor)
            tensor.MergeFrom(_reference(data.name, places[found], found.length))
    with target.open("xb") as stream:
        stream.write(model.SerializeToString())


def _write(piece: Piece, stream: BinaryIO) -> None:
    for block in _blocks(piece) if isinstance(piece, FileRange) else [piece]:
        stream.write(block)


def _blocks(found: FileRange) -> Iterator[bytes]:
    left = found.length
    with found.file.open("rb") as stream:
        stream.seek(found.offset)
        while left:
            block = stream.read(min(left, BLOCK))
            if not block:
                raise InputError(f"{found.file}: cut short; copy it again")
            yield block
            left -= len(block)
