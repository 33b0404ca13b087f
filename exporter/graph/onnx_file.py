"""Read ONNX files, which are untrusted; ``weight_files`` writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from exporter.core.artifact import Artifact, sha256_of
from exporter.core.errors import ArtifactError
from exporter.graph.ambiguity import refuse_ambiguous
from exporter.graph.other_formats import not_onnx
from exporter.graph.sparse import make_dense

EXTERNAL_LIMIT = 2_000_000_000
"""Above this many bytes of weights a single protobuf file is not possible."""


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; tensors in external files stay there (see ``tensor_array``).

    Raises:
        ArtifactError: the file is missing, cut off, not ONNX, or its external data is missing,
            too short or outside the file's own folder.
    """
    return checked_model(path, lambda: onnx.ModelProto.FromString(path.read_bytes()))


def checked_model(path: Path, parse: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """What ``parse`` makes of the file at ``path``, if it can be used.

    Raises:
        ArtifactError: as ``read_model``; ``parse`` says with a ``DecodeError`` or ``ValueError``
            that the bytes are no model.
    """
    if not path.is_file():
        raise ArtifactError("no such ONNX file", where=str(path), remedy="check the path")
    try:
        model = parse()
    except (DecodeError, ValueError) as error:
        raise not_onnx(path, "the protobuf does not parse") from error
    if not model.graph.node or not model.opset_import:
        raise ArtifactError(
            "the file holds no graph",
            where=str(path),
            remedy="give an ONNX model with at least one node",
        )
    refuse_ambiguous(path, model)
    for tensor in external_tensors(model):
        check_external(path, tensor)
    make_dense(path, model)
    return model


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors whose data lies in another file: initialisers, and constants at any depth."""
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    training = (g for held in model.training_info for g in (held.initialization, held.algorithm))
    waiting = [model.graph, *model.functions, *training]
    while waiting:
        held = waiting.pop()
        if isinstance(held, onnx.GraphProto):
            yield from held.initializer
            for sparse in held.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for attribute in (one for node in held.node for one in node.attribute):
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def external_entry(tensor: onnx.TensorProto) -> tuple[str, int, int | None]:
    """(location, offset, length) of an external tensor."""
    entry = {item.key: item.value for item in tensor.external_data}
    length = entry.get("length")
    return entry["location"], int(entry.get("offset", 0)), int(length) if length else None


def point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor say that its bytes lie in another file; ``external_entry`` reads it."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def check_external(path: Path, tensor: onnx.TensorProto) -> None:
    """Check that the external data of a tensor lies in the file's own folder, all of it.

    Raises:
        ArtifactError: it does not.
    """
    where = f"{path}: initializer '{tensor.name}'"
    folder = path.parent.resolve()
    try:
        location, offset, length = external_entry(tensor)
        target = (folder / location).resolve()
    except (KeyError, ValueError) as error:
        raise ArtifactError("its entry of external data is damaged", where=where) from error
    if offset < 0 or (length is not None and length < 0):
        raise ArtifactError(f"external data begins at byte {offset}", where=where)
    if not target.is_relative_to(folder):
        raise ArtifactError(
            f"external data '{location}' lies outside the file's folder", where=where
        )
    if not target.is_file():
        raise ArtifactError(
            f"external data file '{location}' is missing",
            where=where,
            remedy=f"put it next to {path.name}",
        )
    need = offset + (length if length is not None else 0)
    have = target.stat().st_size
    if have < need:
        raise ArtifactError(
            f"external data file '{location}' has {have} bytes, the tensor ends at byte {need}",
            where=where,
            remedy="export or copy both files again",
        )


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


def open_artifact(path: Path) -> tuple[Artifact, onnx.ModelProto]:
    """Read a file from disk as an ``Artifact`` and its model."""
    model = read_model(path)
    names = sorted({external_entry(tensor)[0] for tensor in external_tensors(model)})
    external = {name: sha256_of(path.parent / name) for name in names}
    return describe(path, model, external), model
