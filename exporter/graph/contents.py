"""What an ONNX file holds, and digests of its parts, read without loading its weights.

The file is mapped, so its size does not count as memory. Three digests tell apart what can change:

    weights   sha256 over the lines ``name, dtype, dims, sha256 of the bytes`` of all initialisers,
              sorted; where the bytes lie (in the file, in external data) does not count
    graph     nodes, inputs, outputs, value infos, functions, opsets: all that computes except the
              initialisers
    metadata  a digest per key of ``metadata_props``

Field numbers are those of onnx.proto (ModelProto, GraphProto, TensorProto, StringStringEntryProto).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from exporter.core.errors import ArtifactError
from exporter.core.reading import is_regular
from exporter.graph.ambiguity import refuse_ambiguous, stored_twice
from exporter.graph.other_formats import not_onnx
from exporter.graph.stored_tensors import (
    bytes_of,
    check_values,
    every_tensor,
    external_entry,
    external_tensors,
    map_file,
)
from exporter.graph.wire import (
    BYTES,
    GRAPH,
    INITIALIZER,
    METADATA,
    RAW_DATA,
    Buffer,
    Field,
    WireError,
    delimited,
    fields,
)

# ir_version, graph, opset_import, training_info, functions
_COMPUTES = frozenset({1, 7, 8, 20, 25})
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataEntry:
    """One entry of ``metadata_props``, with the bytes of the file that hold it."""

    key: str
    value: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """An ONNX file.

    Attributes:
        path: the file. size: its bytes, without external data.
        model: everything but the initialisers and the metadata.
        entries: the metadata in the order of the file; a key may be there twice.
        weights, graph: digests, see above.
        initializers: how many there are. weight_bytes: their bytes together.
        external: names of external data files.
    """

    path: Path
    size: int
    model: onnx.ModelProto
    entries: tuple[MetadataEntry, ...]
    weights: str
    graph: str
    initializers: int
    weight_bytes: int
    external: tuple[str, ...]

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata as a mapping; of a key that is there twice the last value."""
        return {entry.key: entry.value for entry in self.entries}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    digest: str
    names: tuple[str, ...]
    size: int
    external: tuple[str, ...]
    problems: tuple[str, ...]


def read_contents(path: Path) -> Contents:
    """Read an ONNX file piece by piece; every byte of the weights is hashed once.

    Raises:
        ArtifactError: missing, cut off, not ONNX, or external data is missing or outside of the
            file's folder.
    """
    if not is_regular(path):
        raise ArtifactError("no such ONNX file", where=str(path), remedy="check the path")
    try:
        view = map_file(path)
        top = list(fields(view, 0, len(view)))
        model, computes = _slim(view, top)
        weights = _weights(path, view, _graph_fields(view, top))
        entries = tuple(entry for item in top if (entry := _entry(view, item)))
    except (WireError, DecodeError) as error:
        raise not_onnx(path, str(error)) from error
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if not model.graph.node or not model.opset_import:
        raise not_onnx(path, "it holds no graph")
    model.metadata_props.extend(
        onnx.StringStringEntryProto(key=entry.key, value=entry.value) for entry in entries
    )
    for tensor in every_tensor(model):  # constants of nodes: the initialisers are not in it
        check_values(path, tensor, len(tensor.raw_data) if tensor.HasField("raw_data") else None)
    refuse_ambiguous(path, model, initializers=weights.names, more=weights.problems)
    del model.metadata_props[:]
    names = {external_entry(tensor)[0] for tensor in external_tensors(model)}
    return Contents(
        path=path,
        size=len(view),
        model=model,
        entries=entries,
        weights=weights.digest,
        graph=computes,
        initializers=len(weights.names),
        weight_bytes=weights.size,
        external=tuple(sorted({*weights.external, *names})),
    )


def metadata_entries(path: Path) -> tuple[MetadataEntry, ...]:
    """The metadata of a file alone; nothing else of it is read.

    Raises:
        ArtifactError: not a protobuf file.
    """
    try:
        view = map_file(path)
        entries = (_entry(view, item) for item in fields(view, 0, len(view)))
        return tuple(entry for entry in entries if entry)
    except WireError as error:
        raise not_onnx(path, str(error)) from error


def metadata_field(key: str, value: str) -> bytes:
    """One entry of ``metadata_props`` as it may be appended to a file."""
    return delimited(METADATA, delimited(1, key.encode()) + delimited(2, value.encode()))


def _entry(view: memoryview, item: Field) -> MetadataEntry | None:
    if item.number != METADATA or item.wire != BYTES:
        return None
    texts = {1: "", 2: ""}
    for part in fields(view, item.start, item.end):
        if part.wire == BYTES and part.number in texts:
            texts[part.number] = bytes(view[part.start : part.end]).decode(errors="replace")
    return MetadataEntry(key=texts[1], value=texts[2], begin=item.begin, end=item.end)


def _graph_fields(view: memoryview, top: Iterable[Field]) -> Iterator[Field]:
    for item in top:
        if item.number == GRAPH and item.wire == BYTES:
            yield from fields(view, item.start, item.end)


def _slim(view: memoryview, top: list[Field]) -> tuple[onnx.ModelProto, str]:
    """The model without weights and metadata, and the digest of what computes in it.

    Fields are taken in the order of their numbers: which order a writer chose says nothing.
    """
    kept = [f for f in _graph_fields(view, top) if f.number != INITIALIZER]
    graph = delimited(GRAPH, b"".join(_sorted_bytes(view, kept)))
    others = [f for f in top if f.number not in (GRAPH, METADATA)]
    computes = [f for f in others if f.number in _COMPUTES]
    digest = hashlib.sha256(graph)
    for part in _sorted_bytes(view, computes):
        digest.update(part)
    model = onnx.ModelProto.FromString(b"".join([graph, *_sorted_bytes(view, others)]))
    return model, digest.hexdigest()


def _sorted_bytes(view: memoryview, items: Iterable[Field]) -> Iterator[bytes]:
    for item in sorted(items, key=lambda item: item.number):
        yield bytes(view[item.begin : item.end])


def _weights(path: Path, view: memoryview, graph: Iterable[Field]) -> _Weights:
    lines, names, problems, total = [], [], [], 0
    external: dict[str, memoryview] = {}
    try:
        for item in graph:
            if item.number != INITIALIZER or item.wire != BYTES:
                continue
            tensor, raw = _tensor(view, item)
            names.append(tensor.name)
            problems.append(stored_twice(tensor, raw=raw is not None))
            check_values(path, tensor, None if raw is None else len(raw))
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raw = _external(path, tensor, external)
            elif raw is None:
                raw = _typed(tensor)
            dtype = onnx.TensorProto.DataType.Name(tensor.data_type)
            dims = "x".join(map(str, tensor.dims))
            lines.append(f"{tensor.name}\t{dtype}\t{dims}\t{_sha256(raw)}\n")
            total += len(raw)
    except ValueError as error:  # an unknown data type, too few values
        raise WireError(str(error)) from error
    return _Weights(
        digest=hashlib.sha256("".join(sorted(lines)).encode()).hexdigest(),
        names=tuple(names),
        size=total,
        external=tuple(sorted(external)),
        problems=tuple(filter(None, problems)),
    )


def _tensor(view: memoryview, item: Field) -> tuple[onnx.TensorProto, Buffer | None]:
    """An initialiser without its raw bytes, and these; ``None`` when it has none."""
    raw: Buffer | None = None
    rest = []
    for part in fields(view, item.start, item.end):
        if part.number == RAW_DATA and part.wire == BYTES:
            raw = view[part.start : part.end]
        else:
            rest.append(bytes(view[part.begin : part.end]))
    return onnx.TensorProto.FromString(b"".join(rest)), raw


def _typed(tensor: onnx.TensorProto) -> bytes:
    """Values that are stored as numbers or strings, as the bytes that raw data would have."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return b"".join(b"%d:%s," % (len(text), text) for text in tensor.string_data)
    return numpy_helper.to_array(tensor).tobytes()


def _external(path: Path, tensor: onnx.TensorProto, views: dict[str, memoryview]) -> Buffer:
    location, offset, _ = external_entry(tensor)
    if location not in views:
        views[location] = map_file(path.parent / location)
    return views[location][offset : offset + bytes_of(tensor)]


def _sha256(data: Buffer) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(data), _CHUNK):
        digest.update(data[start : start + _CHUNK])
    return digest.hexdigest()


def metadata_digests(metadata: Mapping[str, str]) -> dict[str, str]:
    """A short digest per key, so that a change of metadata can be named."""
    return {k: hashlib.sha256(v.encode()).hexdigest()[:16] for k, v in sorted(metadata.items())}
