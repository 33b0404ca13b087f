"""Other bytes of an ONNX file than any model has: merged, hollow, deep, of another form."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import onnx

Raw = Callable[[Random, bytes, Path], None]


def _twice(draw: Random, data: bytes, path: Path) -> None:
    """Protobuf merges what stands there twice."""
    path.write_bytes(data + data[: draw.choice((len(data), len(data) // 2))])


def _hole(draw: Random, data: bytes, path: Path) -> None:
    """Gigabytes of nothing behind the file, or in its place."""
    path.write_bytes(data if draw.random() < 0.5 else b"")
    with path.open("r+b") as file:
        file.truncate(draw.choice((1 << 31, 1 << 33, 1 << 40)))


def _unknown_fields(draw: Random, data: bytes, path: Path) -> None:
    """Fields that the format has not; groups; a length beyond the end; deep messages."""
    deep = b""
    for _step in range(draw.choice((3, 90, 200, 5000))):
        size, length = len(deep), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        deep = b"\x3a" + length + bytes([size]) + deep
    path.write_bytes(
        data
        + draw.choice((b"\xfa\x7f\x01a", b"\xa3\x06\xa4\x06", b"\x3a\xff\xff\xff\xff\x7f", deep))
    )


def _other_form(draw: Random, data: bytes, path: Path) -> None:
    kind = draw.randrange(4)
    if kind == 0:
        path.write_bytes(gzip.compress(data))
    elif kind == 1:
        path.write_text(str(onnx.ModelProto.FromString(data))[:200_000])
    elif kind == 2:
        with zipfile.ZipFile(path, "w") as held:
            held.writestr("model.onnx", data)
    else:
        path.write_bytes(b"\x18\0\0\0ORTM" + data)


RAW: tuple[Raw, ...] = (_twice, _hole, _unknown_fields, _unknown_fields, _other_form)
