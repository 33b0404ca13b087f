"""Ops that show the very same elements in another order: nothing is added, lost or repeated.

What ONNX's free run holds behind such an op has been measured already, in front of it, when its
bits are those of the value in front, rearranged. A third of all values of a transformer are of
this kind, and the ones that are the slowest to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exporter.graph.program import Op, Ref

_SAME_ORDER = frozenset(
    "aten.view.default aten.reshape.default aten.unsqueeze.default aten.squeeze.dim "
    "aten.clone.default aten._unsafe_view.default aten.flatten.using_ints "
    "aten.alias.default aten.type_as.default".split()
)
_SWAPS, _PERMUTES = "aten.transpose.int", "aten.permute.default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearranged:
    """What ONNX should hold behind a rearranging op.

    Attributes:
        source: name of the value in front.
        before, after: its shape, and the shape behind the op.
        axes: axes of ``before`` in the order of ``after``; None when only the shape changes.
        expected: ONNX's own value in front, rearranged; a view where numpy can give one.
    """

    source: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    axes: tuple[int, ...] | None
    expected: np.ndarray

    def place(self, index: Sequence[int]) -> tuple[int, ...]:
        """Where the element at ``index`` in front is behind the op."""
        if self.axes is not None:
            return tuple(int(index[axis]) for axis in self.axes)
        flat = np.ravel_multi_index(tuple(index), self.before)
        return tuple(int(i) for i in np.unravel_index(int(flat), self.after))


def rearranged_source(op: Op) -> str | None:
    """Name of the one value that ``op`` rearranges; None for every other op."""
    first = op.args[0] if op.args else None
    if isinstance(first, Ref) and (op.target in _SAME_ORDER or op.target in (_SWAPS, _PERMUTES)):
        return first.name
    return None


def rearrange(op: Op, value: np.ndarray, after: tuple[int, ...]) -> Rearranged | None:
    """Apply a rearranging op to ONNX's value in front of it.

    Args:
        op: one with a ``rearranged_source``. after: shape behind the op.

    Returns:
        None when ``value`` has not the elements for that shape.
    """
    source = rearranged_source(op)
    if source is None or value.size != int(np.prod(after, dtype=np.int64)):
        return None
    axes = _axes(op, value.ndim)
    expected = value.reshape(after) if axes is None else value.transpose(axes)
    if expected.shape != tuple(after):
        return None
    return Rearranged(
        source=source, before=value.shape, after=tuple(after), axes=axes, expected=expected
    )


def _axes(op: Op, count: int) -> tuple[int, ...] | None:
    if op.target in _SAME_ORDER:
        return None
    if op.target == _PERMUTES:
        return tuple(int(axis) % count for axis in op.args[1])
    axes = list(range(count))
    first, second = (int(axis) % count for axis in op.args[1:3])
    axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)
