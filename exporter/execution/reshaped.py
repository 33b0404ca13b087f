"""Values that a file holds in another shape, with their elements in the same order.

A simplifier that finds ``view -> tanh -> view`` may drop both views: the value is then the same,
its name as well, and its shape is not.

    PyTorch  [3, 50, 48]     the file  [150, 48]        axes 0 and 1 are one

Only shapes that follow from merging or splitting neighbouring axes (axes of one element count as
none) are taken for that. ``[2, 3]`` and ``[3, 2]`` have as many elements and are no such pair: one
of them is more likely the other's transpose. Whether the elements really are in the same order is
for numbers to say, with the same limits as for every other value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from exporter.execution.evaluate import to_array


def merges_or_splits(expected: Sequence[int], held: Sequence[int]) -> bool:
    """True when ``held`` is ``expected`` with neighbouring axes merged or split, or both.

    Walks both shapes at once; a group of axes ends where both products agree, and has one axis
    on at least one of the sides. Equal shapes are a pair; shapes without elements are not.
    """
    if 0 in expected or 0 in held or math.prod(expected) != math.prod(held):
        return False
    left = [size for size in expected if size != 1]
    right = [size for size in held if size != 1]
    while left and right:
        a, b = left.pop(0), right.pop(0)
        taken_left = taken_right = 1
        while a != b:
            if a < b:
                a *= left.pop(0)
                taken_left += 1
            else:
                b *= right.pop(0)
                taken_right += 1
        if min(taken_left, taken_right) > 1:
            return False
    return not left and not right


def as_expected(value: np.ndarray, expected: Sequence[int]) -> np.ndarray | None:
    """``value`` in the expected shape; None where it has that shape or cannot be such a pair."""
    shape = tuple(expected)
    if value.shape == shape or not merges_or_splits(shape, value.shape):
        return None
    return value.reshape(shape)


class StoredShapes:
    """Shapes in which a file holds values that are looked at in PyTorch's; of one walk."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, ...]] = {}

    def take(self, name: str, value: np.ndarray, expected: Sequence[int]) -> np.ndarray:
        """The file's value in the expected shape, if it is one of these; its own is kept."""
        found = as_expected(value, expected)
        if found is None:
            return value
        self._held[name] = value.shape
        return found

    def give(self, name: str, value: np.ndarray) -> np.ndarray:
        """PyTorch's value in the shape in which the file's nodes read it."""
        shape = self._held.get(name)
        return value if shape is None else value.reshape(shape)

    def of(self, name: str) -> tuple[int, ...] | None:
        """The shape in the file; None for a value that has PyTorch's."""
        return self._held.get(name)


def supplier(
    reference: Mapping[str, Any], names: Mapping[str, str], stored: StoredShapes
) -> Callable[[str], np.ndarray]:
    """Gives float32 PyTorch's value for an ONNX name, in the shape that the file knows.

    No method of a walk: one that is reachable from itself would keep its arrays, its sessions and
    the graph until the garbage collector happens to run.

    Args:
        reference: values by the names of the program's ops. names: ONNX name -> that name.
    """
    return lambda name: stored.give(name, to_array(reference[names[name]]))
