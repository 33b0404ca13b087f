"""Weights go to disk once and stay there while the graph changes.

    exporter's model --tensor by tensor--> exported.onnx (+ exported.onnx.data)
                                                |  graph only, weights as inputs
                                             onnxsim
                                                |  names of weights, some transposed
                    model.onnx (+ model.onnx.data) <--tensor by tensor-- exported.onnx (.data)

onnxsim copies a model from message to message: at a gigabyte of weights that is ten seconds and
three copies. What it does with large weights is to transpose them; that is done here, when they
are written. Where it would have computed something else of one, it is given their values after
all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from exporter.core.operators import is_constant
from exporter.graph.simplify import Simplified, simplify
from exporter.graph.stored_tensors import external_entry, external_tensors, point

FOLDED = 1 << 20
"""Bytes below which the simplifier gets a tensor's values and may compute with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeight:
    """A tensor in a file.

    Attributes:
        data: the file. offset: where it begins there.
        dims, data_type: as it lies there; ``data_type`` is onnx's number.
        perm: order of its axes where it is used; None as it lies there.
    """

    data: Path
    offset: int
    dims: tuple[int, ...]
    data_type: int
    perm: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes where it is used."""
        return self.dims if self.perm is None else tuple(self.dims[axis] for axis in self.perm)

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.dims) * _numpy_dtype(self.data_type).itemsize

    def read(self) -> np.ndarray:
        """Its values in the order in which they are used, mapped where possible."""
        count = math.prod(self.dims)
        flat = np.memmap(self.data, _numpy_dtype(self.data_type), "r", self.offset, (count,))
        array = flat.reshape(self.dims)
        return array if self.perm is None else np.ascontiguousarray(array.transpose(self.perm))


def simplify_stored(
    model: onnx.ModelProto, folder: Path
) -> tuple[Simplified, dict[str, StoredWeight]]:
    """Simplify a graph whose large weights lie beside it.

    Args:
        model: as ``store_exported`` returned it.
        folder: where its data lies.

    Returns:
        the simplified graph without its large weights' values, and where those are.

    Raises:
        StageError: onnxsim fails.
    """
    given: set[str] = set()
    while True:
        slim = onnx.ModelProto()
        slim.CopyFrom(model)
        large = _as_inputs(slim, folder, given)
        simplified = simplify(slim)
        computable = _computable(simplified.model, large)
        if not computable:
            break
        given |= computable
    result = simplified.model
    weights = dict(_fold_transposes(result, large))
    used = {name for node in result.graph.node for name in _names_in(node)}
    weights |= {name: weight for name, weight in large.items() if name in used}
    kept = [value for value in result.graph.input if value.name not in large]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    for name, weight in weights.items():
        result.graph.initializer.append(_stand_in(name, weight))
    return replace(
        simplified,
        nodes_after=len(result.graph.node),
        bytes_before=simplified.bytes_before + sum(weight.nbytes for weight in large.values()),
        bytes_after=simplified.bytes_after + sum(weight.nbytes for weight in weights.values()),
    ), weights


def stored_weights(model: onnx.ModelProto, folder: Path) -> dict[str, StoredWeight]:
    """Where the external tensors of a graph lie."""
    return {tensor.name: _stored(tensor, folder) for tensor in external_tensors(model)}


def _as_inputs(
    model: onnx.ModelProto, folder: Path, given: Collection[str]
) -> dict[str, StoredWeight]:
    """Turn large external tensors into inputs, in place; smaller ones get their values back.

    Args:
        given: names of large ones that get theirs as well.
    """
    large: dict[str, StoredWeight] = {}
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in tensors:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            model.graph.initializer.append(tensor)
            continue
        weight = _stored(tensor, folder)
        if weight.nbytes < FOLDED or tensor.name in given:
            model.graph.initializer.add(
                name=tensor.name,
                data_type=tensor.data_type,
                dims=tensor.dims,
                raw_data=weight.read().tobytes(),
            )
            continue
        large[tensor.name] = weight
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    return large


def _computable(model: onnx.ModelProto, large: Mapping[str, StoredWeight]) -> set[str]:
    """Large weights of which, had it known them, the simplifier would have made something else.

    They are read by a node that reads nothing but constants and is not their only transpose.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {n for node in model.graph.node if is_constant(node) for n in node.output}
    behind = {name: {name} for name in large}
    computable: set[str] = set()
    for node in model.graph.node:
        sources = [name for name in node.input if name]
        sources_behind = [behind[name] for name in sources if name in behind]
        if not sources_behind or not all(name in behind or name in constants for name in sources):
            continue
        weights = set[str]().union(*sources_behind)
        if node.op_type != "Transpose" or sources[0] not in large:
            computable |= weights
        behind.update((name, weights) for name in node.output if name)
    return computable


def _fold_transposes(
    model: onnx.ModelProto, large: Mapping[str, StoredWeight]
) -> Iterator[tuple[str, StoredWeight]]:
    """Take transposes of large weights out of the graph, in place; yields what they gave."""
    kept = []
    for node in model.graph.node:
        weight = large.get(node.input[0]) if node.op_type == "Transpose" else None
        if weight is None:
            kept.append(node)
            continue
        given = next((item.ints for item in node.attribute if item.name == "perm"), None)
        perm = tuple(given) if given else tuple(reversed(range(len(weight.dims))))
        yield node.output[0], replace(weight, perm=perm)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _names_in(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for child in graph.node:
                yield from _names_in(child)


def _stored(tensor: onnx.TensorProto, folder: Path) -> StoredWeight:
    location, offset, _ = external_entry(tensor)
    return StoredWeight(
        data=folder / location,
        offset=offset,
        dims=tuple(tensor.dims),
        data_type=tensor.data_type,
    )


def _stand_in(name: str, weight: StoredWeight) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=weight.data_type, dims=weight.shape)
    point(tensor, "elsewhere", 0, weight.nbytes)
    return tensor


def _numpy_dtype(data_type: int) -> np.dtype:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
