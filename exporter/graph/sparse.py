"""Sparse initialisers become dense ones as a file is read: whoever works on a graph knows one kind.

onnxruntime does the same when it loads the file.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from exporter.core.errors import ArtifactError
from exporter.core.operators import is_constant

MOST_BYTES = 1 << 29
"""Of all dense forms of a file together; each is copied twice as the file is read."""


def make_dense(path: Path, model: onnx.ModelProto) -> None:
    """Replace sparse initialisers and constants of the main graph by dense ones, in place.

    Raises:
        ArtifactError: one is damaged, lies outside of the file, or is too large when dense.
    """
    left = MOST_BYTES
    for sparse in model.graph.sparse_initializer:
        dense = _dense(path, sparse, left)
        left -= len(dense.raw_data)
        model.graph.initializer.append(dense)
    del model.graph.sparse_initializer[:]
    for node in model.graph.node:
        if not is_constant(node):
            continue
        for attribute in node.attribute:
            if attribute.name == "sparse_value":
                dense = _dense(path, attribute.sparse_tensor, left)
                left -= len(dense.raw_data)
                attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(path: Path, sparse: onnx.SparseTensorProto, most: int) -> onnx.TensorProto:
    name, dims = sparse.values.name, tuple(sparse.dims)
    where = f"{path}: sparse initializer '{name}'"
    remedy = "write it as a dense initializer"
    if onnx.TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
        raise ArtifactError("it lies outside of the file", where=where, remedy=remedy)
    try:
        values = numpy_helper.to_array(sparse.values).reshape(-1)
        places = numpy_helper.to_array(sparse.indices)
        if min(dims, default=0) < 0 or math.prod(dims) * values.itemsize > most:
            raise ArtifactError(f"its shape {list(dims)} is too large", where=where, remedy=remedy)
        if places.ndim == 2:
            rows = tuple(places.T)
            places = np.asarray(np.ravel_multi_index(rows, dims) if len(places) else rows[0])
        dense = np.zeros(math.prod(dims), values.dtype)
        if len(places) != len(values) or (len(places) and places.min() < 0):
            raise ValueError(f"{len(values)} values, {len(places)} places")
        if len(np.unique(places)) != len(places):
            raise ValueError("one place has two values")
        dense[places] = values
    except (ValueError, IndexError, TypeError, KeyError, MemoryError) as error:
        raise ArtifactError(f"it is damaged ({error})", where=where, remedy=remedy) from error
    return numpy_helper.from_array(dense.reshape(dims), name)
