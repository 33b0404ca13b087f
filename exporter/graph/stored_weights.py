"""Models with external data: their weights go to disk once and stay there while the graph changes.

    exporter's model --tensor by tensor--> exported.onnx + exported.onnx.data
                                                |  graph only, weights as inputs
                                             onnxsim
                                                |  names of weights, some transposed
                            model.onnx + model.onnx.data <--tensor by tensor-- exported.onnx.data

A protobuf copies what it is given and frees nothing before its end, so a model of five gigabytes
that passes through it is held four times; here the graph passes alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from exporter.artifact import Artifact, sha256_of
from exporter.graph.onnx_file import describe, external_entry, external_tensors
from exporter.graph.simplify import Simplified, simplify

SMALLEST = 1024
"""Bytes from which a tensor is stored outside of the file."""
FOLDED = 1 << 20
"""Bytes below which the simplifier gets a tensor's values and may compute with them."""
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeight:
    """A tensor in a file.

    Attributes:
        data: the file. offset: where it begins there.
        dims, data_type: as it lies there; ``data_type`` is onnx's number.
        perm: order of its axes where it is used; None as it lies there.
    """

    data: Path
    offset: int
    dims: tuple[int, ...]
    data_type: int
    perm: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes where it is used."""
        return self.dims if self.perm is None else tuple(self.dims[axis] for axis in self.perm)

    def read(self) -> np.ndarray:
        """Its values in the order in which they are used, mapped where possible."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.data_type)
        count = math.prod(self.dims)
        flat = np.memmap(self.data, dtype, "r", self.offset, (count,))
        array = flat.reshape(self.dims)
        return array if self.perm is None else np.ascontiguousarray(array.transpose(self.perm))


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initialisers of a model, which are not read for it."""
    values = [value.const_value for value in model.graph.initializers.values()]
    return sum(value.nbytes for value in values if value is not None)


def store_exported(
    model: ir.Model, path: Path, metadata: Mapping[str, str]
) -> tuple[Artifact, onnx.ModelProto]:
    """Write what the exporter made; returns the file, and its graph with its weights outside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    location = f"{path.name}.data"
    # Old main file first: at no moment may it point into new data.
    path.unlink(missing_ok=True)
    ir.external_data.unload_from_model(
        model,
        path.parent,
        location,
        size_threshold_bytes=SMALLEST,
        max_workers=1,
        alignment=_ALIGNMENT,
        align_threshold=SMALLEST,
    )
    proto = ir.to_proto(model)
    return _write_main(proto, path, metadata), proto


def simplify_stored(
    model: onnx.ModelProto, folder: Path
) -> tuple[Simplified, dict[str, StoredWeight]]:
    """Simplify a graph whose large weights lie beside it.

    Args:
        model: as ``store_exported`` returned it.
        folder: where its data lies.

    Returns:
        the simplified graph without its large weights' values, and where those are.

    Raises:
        StageError: onnxsim fails.
    """
    slim = onnx.ModelProto()
    slim.CopyFrom(model)
    large = _as_inputs(slim, folder)
    found = simplify(slim)
    result = found.model
    weights = dict(_fold_transposes(result, large))
    used = {name for node in result.graph.node for name in _names_in(node)}
    weights |= {name: weight for name, weight in large.items() if name in used}
    kept = [value for value in result.graph.input if value.name not in large]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    for name, weight in weights.items():
        result.graph.initializer.append(_stand_in(name, weight, 0))
    return replace(
        found,
        bytes_before=found.bytes_before + sum(_bytes(weight) for weight in large.values()),
        bytes_after=found.bytes_after + sum(_bytes(weight) for weight in weights.values()),
    ), weights


def stored_weights(model: onnx.ModelProto, folder: Path) -> dict[str, StoredWeight]:
    """Where the external tensors of a graph lie."""
    return {tensor.name: _stored(tensor, folder) for tensor in external_tensors(model)}


def store_shipped(
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeight],
    path: Path,
    metadata: Mapping[str, str],
) -> Artifact:
    """Write a graph and copy its weights beside it, tensor by tensor."""
    data = path.with_name(f"{path.name}.data")
    part = data.with_name(f"{data.name}.part")
    inside = [tensor for tensor in model.graph.initializer if tensor.name not in weights]
    del model.graph.initializer[:]
    with part.open("wb") as stream:
        for tensor in inside:
            if len(tensor.raw_data) < SMALLEST:
                model.graph.initializer.append(tensor)
                continue
            entry = model.graph.initializer.add(name=tensor.name, data_type=tensor.data_type)
            entry.dims.extend(tensor.dims)
            _point(entry, data.name, _aligned(stream), len(tensor.raw_data))
            stream.write(tensor.raw_data)
        for name, weight in weights.items():
            model.graph.initializer.append(_stand_in(name, weight, _aligned(stream), data.name))
            stream.write(weight.read().reshape(-1).view(np.uint8).data)
    path.unlink(missing_ok=True)
    os.replace(part, data)
    return _write_main(model, path, metadata)


def _aligned(stream: BinaryIO) -> int:
    """Fill up to where a tensor may begin; returns that place."""
    offset = -(-stream.tell() // _ALIGNMENT) * _ALIGNMENT
    stream.write(b"\0" * (offset - stream.tell()))
    return offset


def _as_inputs(model: onnx.ModelProto, folder: Path) -> dict[str, StoredWeight]:
    """Turn large external tensors into inputs, in place; smaller ones get their values back."""
    large: dict[str, StoredWeight] = {}
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in tensors:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            model.graph.initializer.append(tensor)
            continue
        weight = _stored(tensor, folder)
        if _bytes(weight) < FOLDED:
            values = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type)
            values.dims.extend(tensor.dims)
            values.raw_data = weight.read().tobytes()
            model.graph.initializer.append(values)
            continue
        large[tensor.name] = weight
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    return large


def _fold_transposes(
    model: onnx.ModelProto, large: Mapping[str, StoredWeight]
) -> Iterator[tuple[str, StoredWeight]]:
    """Take transposes of large weights out of the graph, in place; yields what they gave."""
    kept = []
    for node in model.graph.node:
        weight = large.get(node.input[0]) if node.op_type == "Transpose" else None
        if weight is None:
            kept.append(node)
            continue
        given = next((item.ints for item in node.attribute if item.name == "perm"), None)
        perm = tuple(given) if given else tuple(reversed(range(len(weight.dims))))
        yield node.output[0], replace(weight, perm=perm)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _names_in(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for child in graph.node:
                yield from _names_in(child)


def _stored(tensor: onnx.TensorProto, folder: Path) -> StoredWeight:
    location, offset, _ = external_entry(tensor)
    return StoredWeight(
        data=folder / location,
        offset=offset,
        dims=tuple(tensor.dims),
        data_type=tensor.data_type,
    )


def _stand_in(
    name: str, weight: StoredWeight, offset: int, location: str = "elsewhere"
) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=weight.data_type)
    tensor.dims.extend(weight.shape)
    _point(tensor, location, offset, _bytes(weight))
    return tensor


def _point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor say where its bytes lie."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _bytes(weight: StoredWeight) -> int:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
    return math.prod(weight.dims) * dtype.itemsize


def _write_main(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str]) -> Artifact:
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(model.SerializeToString())
    os.replace(part, path)
    names = sorted({external_entry(tensor)[0] for tensor in external_tensors(model)})
    return describe(path, model, {name: sha256_of(path.parent / name) for name in names})
