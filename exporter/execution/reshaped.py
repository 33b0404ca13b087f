"""Values that a file holds in another shape, on their way to the comparison and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from exporter.execution.evaluate import to_array
from exporter.parity.compare import as_pairs
from exporter.parity.reshaped import merges_or_splits


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

    Of a complex value these are its parts ``[..., 2]``.

    No method of a walk: one that is reachable from itself would keep its arrays, its sessions and
    the graph until the garbage collector happens to run.

    Args:
        reference: values by the names of the program's ops. names: ONNX name -> that name.
    """
    return lambda name: stored.give(name, as_pairs(to_array(reference[names[name]])))
