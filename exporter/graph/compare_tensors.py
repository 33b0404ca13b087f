"""Compare stored tensors bit for bit, and say in a few words how they differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from exporter.graph.difference_kinds import Kind
from exporter.graph.index import GraphIndex
from exporter.graph.stored_tensors import external_entry

SHOWN = 8
"""A constant of at most so many elements is shown whole."""

# What a wide weight becomes when a narrower format held it for a while.
_NARROWER = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorChange:
    """How one stored tensor differs from another; see ``difference_kinds.Difference``."""

    kind: Kind
    expected: str
    actual: str
    index: tuple[int, ...] | None = None
    count: int | None = None
    size: int | None = None
    note: str = ""


def compare_initializers(
    expected: GraphIndex, actual: GraphIndex, left: str, right: str
) -> TensorChange | None:
    """Compare initialiser ``left`` of one graph with ``right`` of another; None when equal.

    Equal means: same dtype, same shape, same bits (0.0 is not -0.0, a NaN equals itself).
    """
    wanted, present = expected.initializers[left], actual.initializers[right]
    if wanted.data_type != present.data_type:
        types = (
            f"{onnx.TensorProto.DataType.Name(t.data_type).lower()} {list(t.dims)}"
            for t in (wanted, present)
        )
        return TensorChange(kind=Kind.DTYPE, expected=next(types), actual=next(types))
    if list(wanted.dims) != list(present.dims):
        return TensorChange(
            kind=Kind.SHAPE,
            expected=describe(expected, left),
            actual=describe(actual, right),
        )
    if _same_place(expected, wanted, actual, present) or _same_raw(wanted, present):
        return None
    before, after = expected.array(left), actual.array(right)
    different = _different(before, after)
    count = int(np.count_nonzero(different))
    if not count:
        return None
    return _change(left, before, after, different, count)


def describe(graph: GraphIndex, name: str) -> str:
    """Short text for what a node reads: a value's name, or an initialiser with its content."""
    return f"{name} = {content(graph, name)}" if name in graph.initializers else name


def content(graph: GraphIndex, name: str) -> str:
    """Dtype, shape and, of a small one, values of an initialiser."""
    tensor = graph.initializers[name]
    size = int(np.prod(tensor.dims, dtype=np.int64))
    head = f"{onnx.TensorProto.DataType.Name(tensor.data_type).lower()} {list(tensor.dims)}"
    return f"{head} {_values(graph.array(name))}" if size <= SHOWN else head


def is_weight(name: str, array: np.ndarray) -> bool:
    """Weights are what a checkpoint holds; the rest are constants of the program.

    Parameters keep their dotted name through the export; the exporter transposes some of them
    into tensors without a name of their own, which are floating and not small.
    """
    return "." in name or (array.dtype.kind not in "biuOSU" and array.size > SHOWN)


def _same_place(
    expected: GraphIndex, wanted: onnx.TensorProto, actual: GraphIndex, present: onnx.TensorProto
) -> bool:
    """True when both point at the same bytes of the same external file."""
    external = onnx.TensorProto.EXTERNAL
    if not wanted.data_location == present.data_location == external:
        return False
    here, there = external_entry(wanted), external_entry(present)
    if here[1:] != there[1:]:
        return False
    return (expected.folder / here[0]).samefile(actual.folder / there[0])


def _same_raw(wanted: onnx.TensorProto, present: onnx.TensorProto) -> bool:
    """True when both hold the same bytes in memory; the quickest answer for most weights."""
    if not (wanted.HasField("raw_data") and present.HasField("raw_data")):
        return False
    return wanted.raw_data == present.raw_data


def _different(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Boolean array: which elements differ in any bit."""
    width = before.dtype.itemsize
    if before.dtype.kind in "OSU" or width not in (1, 2, 4, 8):
        return np.asarray(before != after)
    bits = np.dtype(f"u{width}")
    left, right = (np.ascontiguousarray(side).view(bits) for side in (before, after))
    return (left != right).reshape(before.shape)


def _change(
    name: str, before: np.ndarray, after: np.ndarray, different: np.ndarray, count: int
) -> TensorChange:
    kind = Kind.WEIGHT if is_weight(name, before) else Kind.CONSTANT
    if before.dtype.kind in "OSU":
        return TensorChange(
            kind=kind,
            expected=_values(before),
            actual=_values(after),
            count=count,
            size=before.size,
        )
    places = np.flatnonzero(different)
    wide = [
        side.reshape(-1)[places].astype(np.complex128 if side.dtype.kind == "c" else np.float64)
        for side in (before, after)
    ]
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(wide[1] - wide[0])
    # A NaN or an infinity is the worst that can have happened.
    worst = int(places[np.argmax(np.where(np.isfinite(distance), distance, np.inf))])
    index = tuple(int(i) for i in np.unravel_index(worst, before.shape))
    if before.size <= SHOWN:
        expected, actual = _values(before), _values(after)
    else:
        at = f" at {list(index)}"
        expected = _values(before[index]) + at
        actual = _values(after[index]) + at
    return TensorChange(
        kind=kind,
        expected=expected,
        actual=actual,
        index=index,
        count=count,
        size=before.size,
        note=_note(before, after) if before.dtype.kind != "b" else "",
    )


def _note(before: np.ndarray, after: np.ndarray) -> str:
    """What was done to the values, where one of the usual accidents explains every bit."""
    if before.ndim == 2 and before.shape[0] == before.shape[1] and np.array_equal(before.T, after):
        return "the transpose of the expected values"
    if before.size <= 1:
        return ""
    if not after.any():
        return "all zero"
    if before.dtype == np.float32:
        for dtype in _NARROWER:
            with np.errstate(over="ignore", under="ignore"):
                rounded = before.astype(onnx.helper.tensor_dtype_to_np_dtype(_TYPES[dtype]))
            if np.array_equal(rounded.astype(np.float32), after):
                return f"the expected values rounded to {dtype}"
    if before.ndim and np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None)):
        return "the expected values in another order"
    return ""


_TYPES = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}


def _values(array: np.ndarray) -> str:
    """Enough digits that two different values read differently."""
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        texts = [f"{float(value):.9g}" for value in array.reshape(-1)]
        return texts[0] if array.ndim == 0 else f"[{', '.join(texts)}]"
    return str(array.tolist())
