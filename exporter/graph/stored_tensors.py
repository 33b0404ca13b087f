"""Every tensor of an ONNX file: where its values lie, and that there are as many as it says.

Tensors stand in four places: initialisers, sparse initialisers, attributes of nodes, and the same
inside of subgraphs and functions. Each may have its values in the file itself or beside it.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from exporter.core.errors import ArtifactError
from exporter.core.files import open_regular
from exporter.core.reading import is_regular, path_of, reason

_MOST_DIGITS = 18
PACKED = frozenset(
    value
    for name, value in TensorProto.DataType.items()
    if name in {"INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1"}
)
"""Types of which several values share a byte: their bytes are no numpy array."""
_MOST_AXES, _MOST_ELEMENTS = 64, 1 << 40
_BITS: dict[int, int] = {
    value: bits
    for bits, names in {
        4: ("INT4", "UINT4", "FLOAT4E2M1"),
        2: ("INT2", "UINT2"),
        6: ("FLOAT6E2M3", "FLOAT6E3M2"),
    }.items()
    for name, value in TensorProto.DataType.items()
    if name in names  # an older onnx does not know all of them
}
"""Types of which several values share a byte."""
_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
_FIELDS = (
    *("float_data", "int32_data", "int64_data"),
    *("double_data", "uint64_data", "string_data"),
)


def every_tensor(model: onnx.ModelProto, *, besides: Container[str] = ()) -> Iterator[TensorProto]:
    """All tensors of a file, those of subgraphs and functions included.

    Args:
        besides: initialisers of the main graph that are left out.
    """
    yield from (tensor for tensor in model.graph.initializer if tensor.name not in besides)
    yield from _beside_initializers(model.graph)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)
    for function in model.functions:
        yield from _of_nodes(function.node)
        yield from _of_attributes(function.attribute_proto)


def unknown_type(model: onnx.ModelProto) -> str:
    """The first value that is declared to hold what no type is, in words; "" for none."""
    graphs = [model.graph]
    for graph in graphs:
        for value in (*graph.input, *graph.output, *graph.value_info):
            for kind in _element_types(value.type):
                if kind not in TensorProto.DataType.values():
                    return f"'{value.name}' has the unknown type {kind}"
        for attribute in (
            attribute_of_node for node in graph.node for attribute_of_node in node.attribute
        ):
            graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    return ""


def _element_types(declared: onnx.TypeProto) -> Iterator[int]:
    kind = declared.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        yield getattr(declared, kind).elem_type
    elif kind == "map_type":
        yield declared.map_type.key_type
        yield from _element_types(declared.map_type.value_type)
    elif kind in ("sequence_type", "optional_type"):
        yield from _element_types(getattr(declared, kind).elem_type)


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    yield from _beside_initializers(graph)


def _beside_initializers(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[TensorProto]:
    for attribute in attributes:
        # One that says it is a tensor and holds none has a type that nobody knows.
        said = attribute.type == onnx.AttributeProto.TENSOR and not attribute.ref_attr_name
        if attribute.HasField("t") or said:
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for tensor in [*sparse, *attribute.sparse_tensors]:
            yield from (tensor.values, tensor.indices)
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from _of_graph(graph)


def bytes_of(tensor: TensorProto) -> int:
    """Bytes that the values of a tensor take as raw data; 0 for strings, which have none."""
    count = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        return 0
    bits = _BITS.get(tensor.data_type)
    if bits is not None:
        return -(-count * bits // 8)
    return count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def misfit(tensor: TensorProto, raw: int | None) -> str:
    """What is wrong with how a tensor stores its values; "" for a healthy one.

    Args:
        raw: bytes of its raw data, ``None`` when it has none. Of external data the place is looked
            at elsewhere.
    """
    kind = tensor.data_type
    if kind == TensorProto.UNDEFINED or kind not in TensorProto.DataType.values():
        return f"has the unknown type {kind}"
    if len(tensor.dims) > _MOST_AXES or min(tensor.dims, default=0) < 0:
        return f"has the shape {list(tensor.dims)[:8]}"
    count = math.prod(tensor.dims)
    # Of an empty tensor, too, the other axes have to be some that an array can have.
    if math.prod(size or 1 for size in tensor.dims) > _MOST_ELEMENTS:
        return f"has a shape that no array can have, {list(tensor.dims)[:8]}"
    if tensor.HasField("segment"):
        return "is stored in segments"
    if tensor.data_location == TensorProto.EXTERNAL:
        return "has strings in another file" if kind == TensorProto.STRING else ""
    if raw is not None and kind != TensorProto.STRING:
        need = bytes_of(tensor)
        return "" if raw == need else f"has {raw:,} bytes, its type and shape want {need:,}"
    field = helper.tensor_dtype_to_field(kind)
    if raw is not None or any(len(getattr(tensor, name)) for name in _FIELDS if name != field):
        return f"holds values that are none of its type, {TensorProto.DataType.Name(kind)}"
    want = count * 2 if kind in _COMPLEX else count
    if _BITS.get(kind, 8) in (2, 4):
        want = bytes_of(tensor)  # such values stand in numbers of a byte each
    have = len(getattr(tensor, field))
    return "" if have == want else f"holds {have:,} values, its shape wants {want:,}"


def external_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Tensors whose data lies in another file: initialisers, and constants at any depth."""
    for tensor in every_tensor(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor


def external_tensors_in(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    """The same of some nodes, and of what is in them."""
    for tensor in _of_nodes(nodes):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor


def whole_node(node: onnx.NodeProto, take_in: Callable[[TensorProto], None]) -> onnx.NodeProto:
    """A node with the tensors of its attributes that lie in another file.

    Two files may say the same of where theirs lie; only the numbers tell them apart.

    Args:
        take_in: puts the bytes of such a tensor into it, as ``GraphIndex.take_in``.
    """
    if not any(external_tensors_in([node])):
        return node
    made = onnx.NodeProto()
    made.CopyFrom(node)
    for tensor in external_tensors_in([made]):
        take_in(tensor)
    return made


def external_entry(tensor: TensorProto) -> tuple[str, int, int | None]:
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


def point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor say that its bytes lie in another file; ``external_entry`` reads it."""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def check_values(path: Path, tensor: TensorProto, raw: int | None) -> None:
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
    if tensor.data_location == TensorProto.EXTERNAL:
        check_external(path, tensor)


def check_external(path: Path, tensor: TensorProto) -> None:
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
