"""Protobuf's wire format, as far as it takes to find one's way in an ONNX file without loading it.

A message is a row of fields, each a tag (field number and wire type) and a value. Messages that
are written one after the other merge: repeated fields add up. That is why a field of metadata can
be appended to a file of any size (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Numbers of fields in onnx.proto: of a model, of its graph, of a tensor.
GRAPH, METADATA = 7, 14
INITIALIZER = 5
RAW_DATA = 9
_FIXED = {FIXED64: 8, FIXED32: 4}
_MOST_VARINT_BYTES = 10

Buffer = bytes | memoryview


class WireError(ValueError):
    """The bytes are no protobuf message, or it was cut off."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: bytes ``begin`` to ``end`` of the buffer, its value from ``start`` on.

    ``value`` is the number that a varint holds, 0 for the other wire types.
    """

    number: int
    wire: int
    begin: int
    start: int
    end: int
    value: int = 0


def fields(buffer: Buffer, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in ``buffer[start:end]``; values are not read.

    Raises:
        WireError: not a message, or cut off.
    """
    at = start
    while at < end:
        begin = at
        tag, at = _varint(buffer, at, end)
        number, wire, value = tag >> 3, tag & 7, 0
        if number == 0:
            raise WireError(f"byte {begin}: there is no field 0")
        if wire == VARINT:
            first = at
            value, at = _varint(buffer, at, end)
        elif wire == BYTES:
            size, first = _varint(buffer, at, end)
            at = first + size
        elif wire in _FIXED:
            first, at = at, at + _FIXED[wire]
        else:
            raise WireError(f"byte {begin}: unknown wire type {wire}")
        if at > end:
            raise WireError(f"byte {begin}: field {number} ends {at - end} bytes behind the end")
        yield Field(number, wire, begin, first, at, value)


def _varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(_MOST_VARINT_BYTES):
        if at + index >= end:
            raise WireError(f"byte {at}: cut off within a number")
        byte = buffer[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise WireError(f"byte {at}: a number of more than {_MOST_VARINT_BYTES} bytes")


def varint(value: int) -> bytes:
    """A number that is not negative, 7 bits a byte, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(number: int, value: Buffer) -> bytes:
    """A field that holds bytes: a string or a message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + bytes(value)
