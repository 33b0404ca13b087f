"""Files that are given for ONNX and are something else, known by their first bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.core.errors import ArtifactError

_HEAD = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """A format: what it is called, how a file of it is known, and what to give instead."""

    name: str
    known: Callable[[bytes, Path], bool]
    remedy: str


def _begins(*starts: bytes, at: int = 0) -> Callable[[bytes, Path], bool]:
    return lambda head, _: any(head[at:].startswith(start) for start in starts)


_FORMATS = (
    _Format(
        name="onnxruntime's own format (.ort)",
        known=_begins(b"ORTM", at=4),
        remedy="give the .onnx file that it was converted from: .ort files keep neither names nor"
        " shapes as ONNX has them",
    ),
    _Format(
        name="a TensorFlow Lite model",
        known=_begins(b"TFL3", at=4),
        remedy="give an ONNX file",
    ),
    _Format(
        name="a TensorRT engine",
        known=_begins(b"ftrt", b"ptrt"),
        remedy="give the ONNX file that it was built from",
    ),
    _Format(
        name="a zip archive, as torch.save, torch.jit.save and torch.export.save write them",
        known=_begins(b"PK\x03\x04"),
        remedy="give an ONNX file; a checkpoint belongs under 'model: weights:' in the pipeline",
    ),
    _Format(
        name="a compressed file (gzip, xz, zstd or bzip2)",
        known=_begins(b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh"),
        remedy="unpack it first",
    ),
    _Format(
        name="a Git LFS pointer: the file itself was not fetched",
        known=_begins(b"version https://git-lfs"),
        remedy="fetch it: git lfs pull",
    ),
    _Format(
        name="a web page, not the file behind its address",
        known=lambda head, _: head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")),
        remedy="download the file itself",
    ),
    _Format(
        name="ONNX as text",
        known=lambda head, path: (
            path.suffix in (".onnxtxt", ".textproto", ".prototxt", ".json")
            or head.lstrip()[:1] == b"{"
            or head.lstrip().startswith((b"ir_version:", b"<ir_version", b"<\n"))
        ),
        remedy="convert it: onnx.save(onnx.load(FILE), 'model.onnx')",
    ),
    _Format(
        name="a safetensors file: weights without a graph",
        known=lambda head, path: head[8:9] == b"{" or path.suffix == ".safetensors",
        remedy="give an ONNX file; weights belong under 'model: weights:' in the pipeline",
    ),
)


def not_onnx(path: Path, why: str) -> ArtifactError:
    """The error for a file that does not parse; names what it is where its first bytes tell.

    Args:
        why: what stopped the parser.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        head = b""
    for known in _FORMATS:
        if head and known.known(head, path):
            return ArtifactError(
                f"not an ONNX file but {known.name}", where=str(path), remedy=known.remedy
            )
    return ArtifactError(
        f"not an ONNX file, or cut off: {why}",
        where=str(path),
        remedy="export or copy the file again",
    )
