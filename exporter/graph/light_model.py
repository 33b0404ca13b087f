"""Read an ONNX file for its graph: large weights are copied once, from the disk to their arrays.

Protobuf's own parser wants the whole file in memory, copies each tensor into the message, and
copies it again for whoever asks for its bytes. At a gigabyte of weights that is two seconds. Who
only hands the weights on need not copy them at all: to onnxruntime any file may hold external
data, the model's own file among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from exporter.graph.ambiguity import stored_twice
from exporter.graph.onnx_file import checked_model, map_file, point
from exporter.graph.stored_values import misfit
from exporter.graph.wire import BYTES, GRAPH, INITIALIZER, RAW_DATA, Field, delimited, fields

_LARGE = 1 << 16
_Take = Callable[[memoryview, onnx.TensorProto, Field], None]
PACKED = frozenset(
    value
    for name, value in onnx.TensorProto.DataType.items()
    if name in {"INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1"}
)
"""Types of which several values share a byte: their bytes are no numpy array."""


def read_light(path: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Read a file; returns the model, and apart from it the values of its large initialisers.

    In the model these have name, dtype and shape, and no values. External data stays where it is.

    Raises:
        ArtifactError: as ``read_model``.
    """
    arrays: dict[str, np.ndarray] = {}

    def copy(view: memoryview, tensor: onnx.TensorProto, data: Field) -> None:
        # Bytes first: a float in the middle of a protobuf lies at any address.
        held = np.empty(tuple(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type))
        held.reshape(-1).view(np.uint8)[:] = np.frombuffer(view[data.start : data.end], np.uint8)
        arrays[tensor.name] = held

    return _read(path, copy), arrays


def read_in_place(path: Path) -> onnx.ModelProto:
    """Read a file; its large initialisers become external data that lies in the file itself.

    Raises:
        ArtifactError: as ``read_model``.
    """

    def refer(view: memoryview, tensor: onnx.TensorProto, data: Field) -> None:
        point(tensor, path.name, data.start, data.end - data.start)

    return _read(path, refer)


def _read(path: Path, take: _Take) -> onnx.ModelProto:
    """Parse a file without the values of its large initialisers, each of which ``take`` is given.

    Args:
        take: gets the file's bytes, the tensor without its values, which it may change, and where
            its values lie.
    """

    taken: set[str] = set()

    def noted(view: memoryview, tensor: onnx.TensorProto, data: Field) -> None:
        taken.add(tensor.name)
        take(view, tensor, data)

    def parse() -> onnx.ModelProto:
        view = map_file(path)
        parts = []
        for item in fields(view, 0, len(view)):
            if item.number == GRAPH and item.wire == BYTES:
                parts.append(delimited(GRAPH, b"".join(_slim_graph(view, item, noted))))
            else:
                parts.append(bytes(view[item.begin : item.end]))
        return onnx.ModelProto.FromString(b"".join(parts))

    return checked_model(path, parse, taken)


def _slim_graph(view: memoryview, graph: Field, take: _Take) -> Iterator[bytes]:
    for item in fields(view, graph.start, graph.end):
        large = item.number == INITIALIZER and item.wire == BYTES
        if not large or item.end - item.start < _LARGE:
            yield bytes(view[item.begin : item.end])
            continue
        inside = list(fields(view, item.start, item.end))
        raw = [part for part in inside if part.number == RAW_DATA and part.wire == BYTES]
        rest = b"".join(bytes(view[p.begin : p.end]) for p in inside if p not in raw)
        tensor = onnx.TensorProto.FromString(rest)
        if not raw or tensor.data_type in PACKED or stored_twice(tensor, raw=True):
            yield bytes(view[item.begin : item.end])
            continue
        data = raw[-1]  # of a field that comes twice the last one counts
        _check_size(tensor, data)
        take(view, tensor, data)
        yield delimited(INITIALIZER, tensor.SerializeToString())


def _check_size(tensor: onnx.TensorProto, data: Field) -> None:
    problem = misfit(tensor, data.end - data.start)
    if problem:
        raise ValueError(f"'{tensor.name}' {problem}")
