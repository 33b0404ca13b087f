"""ONNX files for tests, written as the package writes them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from exporter.core.artifact import Artifact
from exporter.graph import onnx_file
from exporter.graph.onnx_file import read_model
from exporter.graph.onnx_file_writer import store_exported, store_shipped
from exporter.graph.weights_on_disk import simplify_stored


def write_model(
    model: onnx.ModelProto, path: Path, *, external_data: bool, metadata: Mapping[str, str]
) -> Artifact:
    """Write a model that is in memory; it is not changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return store_shipped(copy, {}, path, metadata, outside=external_data)


def simplified(model: ir.Model) -> onnx.ModelProto:
    """What a run ships of an exported model."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _, graph = store_exported(model, folder / "exported.onnx", {}, outside=False)
        found, weights = simplify_stored(graph, folder)
        path = folder / "model.onnx"
        store_shipped(found.model, weights, path, {}, outside=False)
        return read_model(path)


def parsed_whole(path: Path) -> onnx.ModelProto:
    """A file as protobuf itself reads it, with the refusals of ours."""
    return onnx_file._checked(path, lambda: onnx.ModelProto.FromString(path.read_bytes()))
