"""Where the values of tensors lie: in an ONNX file itself, or in files beside it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import onnx

from exporter.core.errors import ArtifactError
from exporter.core.files import open_regular
from exporter.core.reading import is_regular, path_of, reason
from exporter.graph.tensor_sizes import bytes_of, every_tensor, misfit

_MOST_DIGITS = 18
PACKED = frozenset(
    value
    for name, value in onnx.TensorProto.DataType.items()
    if name in {"INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1"}
)
"""Types of which several values share a byte: their bytes are no numpy array."""


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors whose data lies in another file: initialisers, and constants at any depth."""
    for tensor in every_tensor(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def external_entry(tensor: onnx.TensorProto) -> tuple[str, int, int | None]:
    """(location, offset, length) of an external tensor."""
    entry = {item.key: item.value for item in tensor.external_data}
    length = entry.get("length")
    return entry["location"], _number(entry.get("offset", "0")), _number(length) if length else None


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise ValueError(f"'{text[:20]}' is no number of bytes")
    return int(text)


def map_file(path: Path) -> memoryview:
    """The bytes of a regular file, which stay on the disk until they are looked at.

    Raises:
        UserInputError: it is none.
        OSError: it cannot be opened.
    """
    with open_regular(path) as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor say that its bytes lie in another file; ``external_entry`` reads it."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def check_values(path: Path, tensor: onnx.TensorProto, raw: int | None) -> None:
    """Check that a tensor has as many values as its type and shape say, wherever they lie.

    Args:
        raw: bytes of its raw data; ``None`` when it has none.

    Raises:
        ArtifactError: it has not.
    """
    problem = misfit(tensor, raw)
    if problem:
        raise ArtifactError(
            f"the tensor '{tensor.name}' {problem}",
            where=str(path),
            remedy="export the file again; what wrote it, or changed it since, is broken",
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        check_external(path, tensor)


def check_external(path: Path, tensor: onnx.TensorProto) -> None:
    """Check that the external data of a tensor lies in the file's own folder, all of it.

    Raises:
        ArtifactError: it does not.
    """
    where = f"{path}: initializer '{tensor.name}'"
    folder = path.parent.resolve()
    try:
        location, offset, length = external_entry(tensor)
        target = (folder / path_of(location)).resolve()
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        raise ArtifactError(
            f"its entry of external data is damaged ({reason(error)})",
            where=where,
            remedy="export the file again",
        ) from error
    if not target.is_relative_to(folder):
        raise ArtifactError(
            f"external data '{location}' lies outside the file's folder", where=where
        )
    if not is_regular(target):
        raise ArtifactError(
            f"external data file '{location}' is missing",
            where=where,
            remedy=f"put it next to {path.name}",
        )
    size = bytes_of(tensor)
    if length is not None and length != size:
        raise ArtifactError(
            f"external data of {length:,} bytes, its type and shape want {size:,}",
            where=where,
            remedy="export or copy both files again",
        )
    need = offset + size
    have = target.stat().st_size
    if have < need:
        raise ArtifactError(
            f"external data file '{location}' has {have} bytes, the tensor ends at byte {need}",
            where=where,
            remedy="export or copy both files again",
        )
