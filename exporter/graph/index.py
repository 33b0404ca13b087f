"""An ONNX graph with the look-ups that cutting and comparing need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from exporter.core.operators import is_constant
from exporter.graph.stored_tensors import (
    PACKED,
    bytes_of,
    external_entry,
    map_file,
)


@dataclass(frozen=True, slots=True)
class GraphIndex:
    """Look-ups over one ONNX graph.

    Attributes:
        model: the model; never changed.
        nodes: nodes in topological order; Constant nodes are initialisers here.
        producer: value name -> index of the node that computes it.
        consumers: value name -> indices of the nodes that read it (subgraphs included).
        initializers: name -> tensor.
        folder: where external data lies.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    reads: tuple[tuple[str, ...], ...]
    producer: Mapping[str, int]
    consumers: Mapping[str, tuple[int, ...]]
    initializers: Mapping[str, onnx.TensorProto]
    folder: Path
    _maps: dict[str, memoryview] = field(default_factory=dict)
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _digests: dict[str, bytes] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.model.graph.input if v.name not in self.initializers)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.model.graph.output)

    def array(self, name: str) -> np.ndarray:
        """An initialiser as an array; external data is mapped, not read."""
        if name not in self._arrays:
            self._arrays[name] = self._read(self.initializers[name])
        return self._arrays[name]

    def content(self, name: str) -> bytes:
        """A digest of an initialiser's dtype, shape and bytes; a gigabyte is read once for it."""
        if name not in self._digests:
            array = self.array(name)
            whole = hashlib.blake2b(
                f"{array.dtype.name} {list(array.shape)}".encode(), digest_size=16
            )
            if array.dtype.hasobject:
                whole.update(repr(array.tolist()).encode())
            else:
                whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            self._digests[name] = whole.digest()
        return self._digests[name]

    def _read(self, tensor: onnx.TensorProto) -> np.ndarray:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            if tensor.raw_data and tensor.data_type not in PACKED:
                return np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))
            return numpy_helper.to_array(tensor)
        if tensor.data_type in PACKED:
            whole = onnx.TensorProto()
            whole.CopyFrom(tensor)
            self.take_in(whole)
            return numpy_helper.to_array(whole)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.frombuffer(self._beside(tensor), dtype).reshape(tuple(tensor.dims))

    def take_in(self, tensor: onnx.TensorProto) -> None:
        """Put the bytes of a tensor that lie in another file into it: of a copy, not of ``model``.

        For those of branches, constants and attributes, which nobody feeds by name.
        """
        data = bytes(self._beside(tensor))
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        tensor.raw_data = data

    def _beside(self, tensor: onnx.TensorProto) -> memoryview:
        """The bytes of a tensor in another file; they are mapped, not read."""
        location, offset, _ = external_entry(tensor)
        if location not in self._maps:
            self._maps[location] = map_file(self.folder / location)
        return self._maps[location][offset : offset + bytes_of(tensor)]


def index_graph(
    model: onnx.ModelProto, folder: Path, arrays: Mapping[str, np.ndarray] | None = None
) -> GraphIndex:
    """Build the look-ups of ``model``; external data is resolved relative to ``folder``.

    Args:
        arrays: values of initialisers that ``model`` does not hold.
    """
    nodes = tuple(node for node in model.graph.node if not is_constant(node))
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if is_constant(node):
            initializers[node.output[0]] = _constant(node)
    index = GraphIndex(
        model=model,
        nodes=(),
        reads=(),
        producer={},
        consumers={},
        initializers=initializers,
        folder=folder,
        _arrays=dict(arrays or {}),
    )
    return with_nodes(index, nodes)


def with_nodes(graph: GraphIndex, nodes: tuple[onnx.NodeProto, ...]) -> GraphIndex:
    """The same graph with other nodes, in topological order; constants are shared."""
    reads = tuple(_reads(node) for node in nodes)
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    consumers: dict[str, list[int]] = {}
    for i, names in enumerate(reads):
        for name in names:
            consumers.setdefault(name, []).append(i)
    return replace(
        graph,
        nodes=nodes,
        reads=reads,
        producer=producer,
        consumers={name: tuple(users) for name, users in consumers.items()},
    )


def _reads(node: onnx.NodeProto) -> tuple[str, ...]:
    """Names a node reads, the ones that its subgraphs take from outside included."""
    names = dict.fromkeys(name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            inner = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            for child in graph.node:
                for name in _reads(child):
                    if name not in inner:
                        names[name] = None
                inner.update(child.output)
    return tuple(names)


_CONSTANT_DTYPES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def _constant(node: onnx.NodeProto) -> onnx.TensorProto:
    """The value of a Constant node as a tensor that carries the name of its output."""
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
    elif attribute.name in _CONSTANT_DTYPES:
        tensor = numpy_helper.from_array(np.array(value, _CONSTANT_DTYPES[attribute.name]))
    else:
        texts = [value] if attribute.name == "value_string" else list(value)
        tensor = numpy_helper.from_array(np.array(texts, dtype=object).reshape(-1))
    tensor.name = node.output[0]
    return tensor
