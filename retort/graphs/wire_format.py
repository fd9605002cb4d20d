"""ONNX files as the bytes they are: walked tensor by tensor, without reading any weights.

A file is a protobuf message: fields of a tag (number and kind) and a value, nested by length
(https://protobuf.dev/programming-guides/encoding/). What is not changed is passed on as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

VARINT, EIGHT_BYTES, NESTED, FOUR_BYTES = 0, 1, 2, 5
_FIXED = {EIGHT_BYTES: 8, FOUR_BYTES: 4}
_LONGEST_VARINT = 10


@dataclass(frozen=True)
class FileRange:
    """Bytes of a file that are copied when their time comes."""

    file: Path
    offset: int
    length: int


Piece = bytes | memoryview | FileRange


@dataclass(frozen=True)
class Field:
    """One field of a message: ``content[start:end]``, its value ``content[body:end]``."""

    number: int
    kind: int
    start: int
    body: int
    end: int


ChangeTensor = Callable[[memoryview, int, int], Iterable[Piece]]


def change_tensors(content: memoryview, change: ChangeTensor) -> list[Piece]:
    """Return a model's bytes in pieces, each tensor replaced by what ``change`` makes of it.

    Tensors are found wherever the format allows them: initializers, attributes, subgraphs,
    functions, sparse tensors.

    Args:
        content: A serialized ``ModelProto``.
        change: Takes ``content`` and a tensor's start and end in it.

    Raises:
        DecodeError: If the bytes are no such message, or are cut short.
    """
    return list(_changed(content, 0, len(content), ModelProto.DESCRIPTOR, change))


def fields(content: memoryview, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in ``content[start:end]``.

    Raises:
        DecodeError: If it is no message.
    """
    while start < end:
        tag, body = _varint(content, start, end)
        kind = tag & 7
        if kind == NESTED:
            length, body = _varint(content, body, end)
            stop = body + length
        elif kind == VARINT:
            _, stop = _varint(content, body, end)
        elif kind in _FIXED:
            stop = body + _FIXED[kind]
        else:
            raise DecodeError("a field of an unknown kind")
        if stop > end:
            raise DecodeError("a field goes on beyond its message")
        yield Field(tag >> 3, kind, start, body, stop)
        start = stop


def nested(number: int, length: int) -> bytes:
    """Return the tag and the length that stand before a nested value."""
    return varint(number << 3 | NESTED) + varint(length)


def varint(value: int) -> bytes:
    """Return a whole number as protobuf writes it: seven bits to a byte, the lowest first."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def length_of(pieces: Iterable[Piece]) -> int:
    """Return how many bytes the pieces have."""
    return sum(piece.length if isinstance(piece, FileRange) else len(piece) for piece in pieces)


def _changed(
    content: memoryview, start: int, end: int, message: Descriptor, change: ChangeTensor
) -> Iterator[Piece]:
    within = _fields_with_tensors(message)
    kept = start
    for field in fields(content, start, end):
        inner = within.get(field.number) if field.kind == NESTED else None
        if inner is None:
            continue
        if inner is TensorProto.DESCRIPTOR:
            value = list(change(content, field.body, field.end))
        else:
            value = list(_changed(content, field.body, field.end, inner, change))
        yield content[kept : field.start]
        yield nested(field.number, length_of(value))
        yield from value
        kept = field.end
    yield content[kept:end]


@cache
def _fields_with_tensors(message: Descriptor) -> Mapping[int, Descriptor]:
    return {
        field.number: field.message_type
        for field in message.fields
        if field.message_type is not None and _holds_tensors(field.message_type, frozenset())
    }


def _holds_tensors(message: Descriptor, seen: frozenset[str]) -> bool:
    if message is TensorProto.DESCRIPTOR:
        return True
    if message.full_name in seen:
        return False
    inner = [field.message_type for field in message.fields if field.message_type is not None]
    return any(_holds_tensors(kind, seen | {message.full_name}) for kind in inner)


def _varint(content: memoryview, start: int, end: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(content[start : min(end, start + _LONGEST_VARINT)]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, start + index + 1
    raise DecodeError("a number without an end")
