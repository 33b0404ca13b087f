"""Write a graph and its weights, tensor by tensor: inside of the file, or beside it.

    inside    [ the rest ][ graph without large weights ][ weight ][ weight ] ...   one message
    beside    [ the rest   graph, weights as places    ]      name.data: [ weight ][ weight ] ...

A protobuf copies what it is given, serialises it into another copy and frees nothing before its
end. Here the graph passes through it alone; each weight goes from where it lies to the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from exporter.core.artifact import Artifact, sha256_of
from exporter.core.files import replacing
from exporter.graph.onnx_file import EXTERNAL_LIMIT, describe, read_in_place
from exporter.graph.stored_tensors import PACKED, external_entry, external_tensors, point
from exporter.graph.weights_on_disk import StoredWeight
from exporter.graph.wire import BYTES, GRAPH, INITIALIZER, RAW_DATA, fields, varint

SMALLEST = 1024
"""Bytes from which a tensor does not pass through a protobuf."""
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weight:
    """A tensor to be written: its declaration, its size, and how to get its bytes."""

    declared: onnx.TensorProto
    size: int
    data: Callable[[], memoryview]


def store_exported(
    model: ir.Model, path: Path, metadata: Mapping[str, str], *, outside: bool
) -> tuple[Artifact, onnx.ModelProto]:
    """Write what the exporter made; returns the file, and its graph with its weights left there.

    Args:
        outside: put weights in ``<name>.data``; above ``EXTERNAL_LIMIT`` bytes they are anyway.
    """
    proto, weights = _apart(model)
    artifact = _store(proto, weights, path, metadata, outside=outside)
    return artifact, read_in_place(path)


def store_shipped(
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeight],
    path: Path,
    metadata: Mapping[str, str],
    *,
    outside: bool,
) -> Artifact:
    """Write a graph with its weights, which are copied from where they are stored.

    Args:
        model: an initialiser that ``weights`` names is only declared there; consumed.
        outside: as for ``store_exported``.
    """
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    large = []
    for tensor in tensors:
        if tensor.name in weights:
            continue
        if len(tensor.raw_data) < SMALLEST:
            model.graph.initializer.append(tensor)
        else:
            large.append(_of_proto(tensor))
    large += [_of_stored(name, weight) for name, weight in weights.items()]
    return _store(model, large, path, metadata, outside=outside)


def _apart(model: ir.Model) -> tuple[onnx.ModelProto, list[_Weight]]:
    """The graph without its large weights, and those; ``model`` is left as it was."""
    weights, data = [], {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < SMALLEST or int(tensor.dtype) in PACKED:
            continue
        data[name] = tensor
        weights.append(_of_ir(name, tensor))
    try:
        for name, tensor in data.items():
            # A place instead of values: nothing is read when the graph becomes a protobuf.
            model.graph.initializers[name].const_value = ir.ExternalTensor(
                "elsewhere", 0, 0, tensor.dtype, shape=ir.Shape(tensor.shape), name=name
            )
        proto = ir.to_proto(model)
    finally:
        for name, tensor in data.items():
            model.graph.initializers[name].const_value = tensor
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in data]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto, weights


def _of_ir(name: str, tensor: ir.TensorProtocol) -> _Weight:
    dims = tuple(int(size) for size in tensor.shape.numpy())
    return _Weight(
        declared=onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=dims),
        size=tensor.nbytes,
        data=lambda: _bytes_of(tensor.numpy()),
    )


def _of_proto(tensor: onnx.TensorProto) -> _Weight:
    return _Weight(
        declared=onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims),
        size=len(tensor.raw_data),
        data=lambda: memoryview(tensor.raw_data),
    )


def _of_stored(name: str, weight: StoredWeight) -> _Weight:
    return _Weight(
        declared=onnx.TensorProto(name=name, data_type=weight.data_type, dims=weight.shape),
        size=weight.nbytes,
        data=lambda: _bytes_of(weight.read()),
    )


def _bytes_of(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _store(
    model: onnx.ModelProto,
    weights: list[_Weight],
    path: Path,
    metadata: Mapping[str, str],
    *,
    outside: bool,
) -> Artifact:
    path.parent.mkdir(parents=True, exist_ok=True)
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    data = path.with_name(f"{path.name}.data")
    with replacing(path) as part:
        if outside or sum(weight.size for weight in weights) > EXTERNAL_LIMIT:
            with replacing(data) as beside:
                _write_beside(model, weights, data.name, beside)
                part.write_bytes(model.SerializeToString())
                # Old main file first: at no moment may it point into new data.
                path.unlink(missing_ok=True)
        else:
            with part.open("wb") as stream:
                for piece in _message(model, weights):
                    stream.write(piece)
            if data.exists():
                path.unlink(missing_ok=True)
                data.unlink()
    names = sorted({external_entry(tensor)[0] for tensor in external_tensors(model)})
    return describe(path, model, {name: sha256_of(path.parent / name) for name in names})


def _write_beside(model: onnx.ModelProto, weights: list[_Weight], name: str, to: Path) -> None:
    """Write weights to a file that will be called ``name``, and let the model point there."""
    with to.open("wb") as stream:
        for weight in weights:
            entry = model.graph.initializer.add()
            entry.CopyFrom(weight.declared)
            point(entry, name, _aligned(stream), weight.size)
            stream.write(_data_of(weight))


def _aligned(stream: BinaryIO) -> int:
    """Fill up to where a tensor may begin; returns that place."""
    offset = -(-stream.tell() // _ALIGNMENT) * _ALIGNMENT
    stream.write(b"\0" * (offset - stream.tell()))
    return offset


def _data_of(weight: _Weight) -> memoryview:
    data = weight.data()
    if len(data) != weight.size:
        name = weight.declared.name
        raise ValueError(f"'{name}' has {len(data)} bytes, not the {weight.size} of its shape")
    return data


def _message(model: onnx.ModelProto, weights: list[_Weight]) -> Iterator[bytes | memoryview]:
    """The bytes of ``model`` with ``weights`` behind its other initialisers.

    Fields come by number, as protobuf writes them: loading and saving the file changes nothing.
    """
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    begin, end = _split(rest.SerializeToString(deterministic=True), GRAPH)
    front, back = _split(model.graph.SerializeToString(deterministic=True), INITIALIZER)
    heads = [_head(weight) for weight in weights]
    size = len(front) + len(back) + sum(map(len, heads)) + sum(w.size for w in weights)
    yield begin + varint(GRAPH << 3 | BYTES) + varint(size) + front
    for head, weight in zip(heads, weights, strict=True):
        yield head
        yield _data_of(weight)
    yield back + end


def _split(message: bytes, number: int) -> tuple[bytes, bytes]:
    """A message up to the last field of ``number``, and what stands behind it."""
    parts = list(fields(message, 0, len(message)))
    at = next((part.begin for part in parts if part.number > number), len(message))
    return message[:at], message[at:]


def _head(weight: _Weight) -> bytes:
    """What stands in front of a weight's bytes: it begins a tensor that ends with them."""
    tensor = weight.declared.SerializeToString(deterministic=True)
    tensor += varint(RAW_DATA << 3 | BYTES) + varint(weight.size)
    return varint(INITIALIZER << 3 | BYTES) + varint(len(tensor) + weight.size) + tensor
