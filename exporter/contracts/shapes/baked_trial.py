"""Try whether a constant of the file was baked in: put another in its place and run the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from exporter.contracts.locate.first import record
from exporter.contracts.target import ForwardError, Target
from exporter.core.errors import ArtifactError, OnnxStoppedError
from exporter.core.files import temporary_folder
from exporter.core.operators import is_constant
from exporter.core.tensors import Arrays
from exporter.execution.onnx_runs import FileRun
from exporter.graph.onnx_file import read_model

Agrees = Callable[[dict[str, np.ndarray]], bool]
Sizes = Mapping[int, int]
"""A size at the example -> the same size at another input."""

_LARGEST_FILE = 64 * 2**20
_MOST_CONSTANTS = 48
_MOST_SECONDS = 20.0


def sizes_that_move(target: Target, good: Arrays, bad: Arrays) -> dict[int, int]:
    """Sizes that PyTorch has inside on one input and what becomes of them on another.

    Inputs first, then what every module returns; a size that becomes several is the first one.
    """
    pairs = [(good[name].shape, bad[name].shape) for name in target.input_names]
    try:
        before, after = record(target, good), record(target, bad)
        pairs += [
            (tuple(before[key].value.shape), tuple(after[key].value.shape))
            for key in before
            if key in after
        ]
    except ForwardError:
        pass
    sizes: dict[int, int] = {}
    for left, right in pairs:
        if len(left) == len(right):
            for size, other in zip(left, right, strict=True):
                if size != other:
                    sizes.setdefault(int(size), int(other))
    return sizes


class Trial:
    """Runs of a file with other constants.

    Args:
        target: whose file it is.
        sizes: what stands in a constant, and what ought to.
        inputs: of the size that comes out wrong.
        agrees: tells whether outputs on ``inputs`` are PyTorch's.
    """

    def __init__(self, target: Target, sizes: Sizes, inputs: Arrays, agrees: Agrees):
        self._target, self._sizes = target, sizes
        self._inputs, self._agrees = inputs, agrees
        self._until = time.monotonic() + _MOST_SECONDS

    def guilty(self, names: Sequence[str]) -> str | None:
        """The first constant without whose change the file stays wrong; ``None`` when changing
        them does not help, or the file is too large to be tried."""
        path = self._target.onnx.file.path
        names = names[:_MOST_CONSTANTS]
        if not names or path.stat().st_size > _LARGEST_FILE:
            return None
        graph = self._target.onnx.file.graph
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in graph.initializers.values()):
            return None
        model = read_model(path)
        changes = {name: list(self._changed(graph.array(name))) for name in names}
        for name, options in changes.items():
            if any(self._works(model, {name: option}) for option in options):
                return name
        every = {name: options[0] for name, options in changes.items() if options}
        if len(every) < 2 or not self._works(model, every):
            return None
        for name in every:
            rest = {other: value for other, value in every.items() if other != name}
            if not self._works(model, rest):
                return name
        return None

    def _works(self, model: onnx.ModelProto, changes: Mapping[str, np.ndarray]) -> bool:
        if time.monotonic() > self._until:
            return False
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.name in changes:
                tensor.CopyFrom(numpy_helper.from_array(changes[tensor.name], tensor.name))
        for node in changed.graph.node:
            if is_constant(node) and node.output[0] in changes:
                del node.attribute[:]
                value = numpy_helper.from_array(changes[node.output[0]])
                node.attribute.append(onnx.helper.make_attribute("value", value))
        # Declared shapes of values inside may hold the example's sizes as well.
        del changed.graph.value_info[:]
        with temporary_folder() as folder:
            path = folder / "tried.onnx"
            path.write_bytes(changed.SerializeToString())
            try:
                return self._agrees(FileRun(path, self._target.onnx.deployment).run(self._inputs))
            except (OnnxStoppedError, ArtifactError):
                return False

    def _changed(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """What may have to stand there: every size replaced, or one of them; a longer table."""
        if array.dtype.kind in "iu" and array.size <= 16:
            hits = [k for k, value in enumerate(array.reshape(-1)) if int(value) in self._sizes]
            for chosen in (hits, *([k] for k in hits if len(hits) > 1)):
                if chosen:
                    yield self._replaced(array, chosen)
        elif array.dtype.kind == "f" and array.size <= 16:
            factors = array.astype(np.float64).reshape(-1).copy()
            for size, other in self._sizes.items():
                for k, value in enumerate(array.reshape(-1)):
                    if size and abs(float(value)) == size:
                        factors[k] = np.sign(value) * other
                    elif size and abs(abs(float(value)) * size - 1) < 1e-6:
                        factors[k] = np.sign(value) / max(other, 1)
            if (factors != array.reshape(-1)).any():
                yield factors.reshape(array.shape).astype(array.dtype)
        for axis, size in enumerate(array.shape):
            if size in self._sizes and size > 1:
                yield _continued(array, axis, self._sizes[size])

    def _replaced(self, array: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
        flat = array.reshape(-1).copy()
        for k in chosen:
            flat[k] = self._sizes[int(flat[k])]
        return flat.reshape(array.shape)


def _continued(table: np.ndarray, axis: int, size: int) -> np.ndarray:
    """A table of another size: cut, or continued as its last two rows say (0, 1, 2 -> 3, 4)."""
    have = table.shape[axis]
    kept = np.take(table, np.arange(min(size, have)), axis=axis)
    if size <= have:
        return np.ascontiguousarray(kept)
    last, before = (np.take(table, [k], axis=axis) for k in (have - 1, have - 2))
    if table.dtype == bool:
        return np.concatenate([kept, *[last] * (size - have)], axis=axis)
    more = [last + (last - before) * (k + 1) for k in range(size - have)]
    return np.concatenate([kept, *more], axis=axis).astype(table.dtype)
