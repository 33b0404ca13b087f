"""Read ONNX files, which are untrusted: the one door for them; ``onnx_file_writer`` writes them.

All read the same way, without the values of large weights: ``open_graph`` copies those once, from
the disk to their arrays; ``read_in_place`` leaves them in the file, to which the model points;
``read_model`` puts them into the model, for who changes it and writes it again.

Protobuf's own parser wants the whole file in memory, copies each tensor into the message, and
copies it again for whoever asks for its bytes. At a gigabyte of weights that is two seconds. Who
only hands the weights on need not copy them at all: to onnxruntime any file may hold external
data, the model's own file among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper
from onnx.external_data_helper import load_external_data_for_model

from exporter.core.artifact import Artifact, sha256_of
from exporter.core.errors import ArtifactError
from exporter.core.reading import is_regular, reason
from exporter.graph.ambiguity import refuse_ambiguous, stored_twice
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.other_formats import not_onnx
from exporter.graph.sparse import make_dense
from exporter.graph.stored_tensors import (
    PACKED,
    check_values,
    every_tensor,
    external_entry,
    external_tensors,
    map_file,
    misfit,
    point,
    unknown_type,
)
from exporter.graph.undefined_names import unmade
from exporter.graph.wire import BYTES, GRAPH, INITIALIZER, RAW_DATA, Field, delimited, fields

EXTERNAL_LIMIT = 2_000_000_000
"""Above this many bytes of weights a single protobuf file is not possible."""
_LARGE = 1 << 16
_Take = Callable[[memoryview, onnx.TensorProto, Field], None]


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, all of it; tensors in external files stay there.

    Raises:
        ArtifactError: the file is missing, cut off, not ONNX, or its external data is missing,
            too short or outside the file's own folder.
    """
    model, arrays = read_light(path)
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.raw_data = arrays[tensor.name].tobytes()
    return model


def read_whole(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with all of its external data, for who hands it on as one message.

    Raises:
        ArtifactError: as ``read_model``; a protobuf cannot hold so much.
    """
    size = bytes_of(path)
    if size > EXTERNAL_LIMIT:
        raise ArtifactError(
            f"{size / 1e9:.1f} GB: more than the {EXTERNAL_LIMIT / 1e9:g} GB that can be handed on"
            " as one model in memory",
            where=str(path),
        )
    return load(path)


def load(path: Path) -> onnx.ModelProto:
    """As ``read_whole``, of any size: above 2 GB it lives in memory, and is never one message.

    Raises:
        ArtifactError: as ``read_model``.
    """
    model = read_model(path)
    load_external_data_for_model(model, str(path.parent))
    return model


def bytes_of(path: Path) -> int:
    """Size of a file and its external data together.

    Raises:
        ArtifactError: as ``read_model``.
    """
    names = {external_entry(tensor)[0] for tensor in external_tensors(read_in_place(path))}
    return sum((path.parent / name).stat().st_size for name in {*names, path.name})


def open_graph(path: Path) -> GraphIndex:
    """Read an ONNX file and its look-ups; its weights are then held once, as arrays.

    Raises:
        ArtifactError: the file cannot be used (see ``read_model``).
    """
    model, arrays = read_light(path)
    return index_graph(model, path.parent, arrays)


def open_in_place(path: Path) -> GraphIndex:
    """As ``open_graph``; large weights stay in the file, and are mapped where somebody asks."""
    return index_graph(read_in_place(path), path.parent)


def read_light(path: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Read a file; returns the model, and apart from it the values of its large initialisers.

    In the model these have name, dtype and shape, and no values. External data stays where it is.

    Raises:
        ArtifactError: as ``read_model``.
    """
    arrays: dict[str, np.ndarray] = {}

    def copy(view: memoryview, tensor: onnx.TensorProto, data: Field) -> None:
        # Bytes first: a float in the middle of a protobuf lies at any address.
        array = np.empty(tuple(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type))
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(view[data.start : data.end], np.uint8)
        arrays[tensor.name] = array

    return _read(path, copy), arrays


def read_in_place(path: Path, *, again: bool = False) -> onnx.ModelProto:
    """Read a file; its large initialisers become external data that lies in the file itself.

    Args:
        again: it was read before, by any of these functions, and found usable.

    Raises:
        ArtifactError: as ``read_model``.
    """

    def refer(view: memoryview, tensor: onnx.TensorProto, data: Field) -> None:
        point(tensor, path.name, data.start, data.end - data.start)

    return _read(path, refer, again=again)


def open_artifact(path: Path) -> tuple[Artifact, GraphIndex]:
    """Read a file from disk as an ``Artifact`` and its graph."""
    graph = open_graph(path)
    names = sorted({external_entry(tensor)[0] for tensor in external_tensors(graph.model)})
    external = {name: sha256_of(path.parent / name) for name in names}
    return describe(path, graph.model, external), graph


def describe(path: Path, model: onnx.ModelProto, external: Mapping[str, str]) -> Artifact:
    """The ``Artifact`` of a file that lies at ``path``."""
    size = path.stat().st_size + sum((path.parent / name).stat().st_size for name in external)
    return Artifact(
        path=path,
        sha256=sha256_of(path),
        bytes=size,
        nodes=len(model.graph.node),
        metadata={item.key: item.value for item in model.metadata_props},
        external=dict(external),
    )


def _read(path: Path, take: _Take, *, again: bool = False) -> onnx.ModelProto:
    """Parse a file without the values of its large initialisers, each of which ``take`` is given.

    Args:
        again: as of ``read_in_place``.
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

    return _parsed(path, parse) if again else _checked(path, parse, taken)


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


def _parsed(path: Path, parse: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """What ``parse`` makes of the file at ``path``; raises as ``_checked``."""
    if not is_regular(path):
        raise ArtifactError("no such ONNX file", where=str(path), remedy="check the path")
    try:
        return parse()
    except OSError as error:
        raise ArtifactError(f"cannot be read: {reason(error)}", where=str(path)) from error
    except (DecodeError, ValueError) as error:
        raise not_onnx(path, "the protobuf does not parse") from error


def _checked(
    path: Path, parse: Callable[[], onnx.ModelProto], taken: Collection[str] = ()
) -> onnx.ModelProto:
    """What ``parse`` makes of the file at ``path``, if it can be used.

    Args:
        taken: initialisers whose values ``parse`` has looked at, and left out.

    Raises:
        ArtifactError: as ``read_model``; ``parse`` says with a ``DecodeError`` or ``ValueError``
            that the bytes are no model.
    """
    model = _parsed(path, parse)
    if not model.graph.node or not model.opset_import:
        raise ArtifactError(
            "the file holds no graph",
            where=str(path),
            remedy="give an ONNX model with at least one node",
        )
    refuse_ambiguous(path, model)
    for item in (*model.opset_import, *(i for f in model.functions for i in f.opset_import)):
        if not 0 <= item.version < 1 << 31:
            raise ArtifactError(
                f"opset {item.version} of '{item.domain or 'ai.onnx'}' is no version",
                where=str(path),
                remedy="export the file again",
            )
    if lost := next(unmade(model), None):
        raise ArtifactError(
            f"{lost}, and nothing makes it",
            where=str(path),
            remedy="export the file again; onnx.checker.check_model says the same",
        )
    if odd := unknown_type(model):
        raise ArtifactError(
            odd, where=str(path), remedy="export the file again; its types are damaged"
        )
    for tensor in every_tensor(model, besides=taken):
        check_values(path, tensor, len(tensor.raw_data) if tensor.HasField("raw_data") else None)
    make_dense(path, model)
    return model
