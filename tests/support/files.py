"""ONNX files for tests, written as the package writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from exporter.artifact import Artifact
from exporter.graph.weight_files import store_shipped


def write_model(
    model: onnx.ModelProto, path: Path, *, external_data: bool, metadata: Mapping[str, str]
) -> Artifact:
    """Write a model that is in memory; it is not changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return store_shipped(copy, {}, path, metadata, outside=external_data)
