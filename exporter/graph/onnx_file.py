"""Read ONNX files, which are untrusted; ``weight_files`` writes them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from exporter.core.artifact import Artifact, sha256_of
from exporter.core.errors import ArtifactError
from exporter.core.files import open_regular, read_bytes
from exporter.core.reading import is_regular, path_of, reason
from exporter.graph.ambiguity import refuse_ambiguous
from exporter.graph.other_formats import not_onnx
from exporter.graph.sparse import make_dense
from exporter.graph.stored_values import bytes_of, every_tensor, misfit
from exporter.graph.unmade import unmade

_MOST_DIGITS = 18

EXTERNAL_LIMIT = 2_000_000_000
"""Above this many bytes of weights a single protobuf file is not possible."""


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; tensors in external files stay there (see ``tensor_array``).

    Raises:
        ArtifactError: the file is missing, cut off, not ONNX, or its external data is missing,
            too short or outside the file's own folder.
    """
    return checked_model(path, lambda: onnx.ModelProto.FromString(read_bytes(path)))


def checked_model(
    path: Path, parse: Callable[[], onnx.ModelProto], taken: Collection[str] = ()
) -> onnx.ModelProto:
    """What ``parse`` makes of the file at ``path``, if it can be used.

    Args:
        taken: initialisers whose values ``parse`` has looked at, and left out.

    Raises:
        ArtifactError: as ``read_model``; ``parse`` says with a ``DecodeError`` or ``ValueError``
            that the bytes are no model.
    """
    if not is_regular(path):
        raise ArtifactError("no such ONNX file", where=str(path), remedy="check the path")
    try:
        model = parse()
    except OSError as error:
        raise ArtifactError(f"cannot be read: {reason(error)}", where=str(path)) from error
    except (DecodeError, ValueError) as error:
        raise not_onnx(path, "the protobuf does not parse") from error
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
    for tensor in every_tensor(model, besides=taken):
        check_values(path, tensor, len(tensor.raw_data) if tensor.HasField("raw_data") else None)
    make_dense(path, model)
    return model


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
