"""Values as one file stores them: shapes and formats, on their way to the comparison and back.

reference (float32) --dtype of the file--> fed to its pieces
ONNX's value --grid of all who read it--> what the network goes on with
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from exporter.graph.node_formats import HeldPrecision
from exporter.graph.program import Op
from exporter.interpret.evaluate import call, to_array, to_tensor
from exporter.parity.compare import as_pairs
from exporter.parity.reshaped import merges_or_splits

_NARROW = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_FLOATS = ("float16", "float32", "float64")


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
        narrowed = as_expected(value, expected)
        if narrowed is None:
            return value
        self._held[name] = value.shape
        return narrowed

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


class StoredFormats:
    """How a file stores the values of a program; of one walk.

    Args:
        precision: what its pieces hold.

    The dtypes are those that the file's own run has shown (:meth:`learn`), and its constants'.
    """

    def __init__(self, precision: HeldPrecision):
        self._held = precision
        self._dtypes: dict[str, str] = {}
        self.moved: dict[str, np.ndarray] = {}
        self._lowered = bool(precision.formats)

    def learn(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the file's own run, as everybody sees them; their dtypes are kept in mind."""
        self._dtypes.update((name, value.dtype.name) for name, value in values.items())
        return self.as_seen(values)

    def as_seen(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values as all who read them see them: on the grid that each reader puts them on."""
        if not self._lowered:
            return values
        return {name: self._seen(name, value) for name, value in values.items()}

    def _seen(self, name: str, value: np.ndarray) -> np.ndarray:
        grid = self._held.seen(name) if value.dtype == np.float32 else None
        return value if grid is None else grid.through(value)

    def feeding(self, supply: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
        """``supply``, in the dtypes in which the file's nodes take the values."""
        return lambda name: self._fed(name, supply(name))

    def _fed(self, name: str, value: np.ndarray) -> np.ndarray:
        dtype = self._dtypes.get(name) or self._held.constant_dtype(name) or value.dtype.name
        if dtype == value.dtype.name or dtype not in _FLOATS or value.dtype.name not in _FLOATS:
            return value
        with np.errstate(over="ignore"):
            return value.astype(dtype)

    def rounded(self, name: str, value: Any) -> Any:
        """The same for a tensor that float64 goes on with: the numbers that the file is fed."""
        dtype = _NARROW.get(self._dtypes.get(name, ""))
        if dtype is None or not isinstance(value, torch.Tensor) or value.dtype == dtype:
            return value
        return value.to(dtype) if value.is_floating_point() else value

    def move(self, op: Op, name: str, operand: Callable[[str], tuple[str, Any]]) -> None:
        """Keep in ``moved`` what an op that moves elements leaves of stored ones, bit for bit.

        Nothing is kept where the file stores what the model itself does.

        Args:
            name: of the op's result in the file.
            operand: a value that comes into the piece, with its name in the file; with "" one that
                the piece itself has moved before.
        """
        if not self._lowered:
            return
        grid_of_value = self._held.of(name)
        grids = set(grid_of_value.sources.values())

        def through(source: str) -> Any:
            inside, value = operand(source)
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                return value
            value = self.rounded(inside, value) if inside else self._moved_before(source, value)
            # Rounding and moving commute: what was moved inside came on the one grid that is there.
            only = next(iter(grids)) if len(grids) == 1 else ()
            here = grid_of_value.sources.get(inside, ()) if inside else only
            for grid in here:
                value = to_tensor(grid.through(to_array(value)))
            return value

        value = call(op, through)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return
        array = to_array(value)
        for grid in grid_of_value.results:
            array = grid.through(array)
        if grid_of_value.formats or name not in self._dtypes:
            self.moved[op.name] = self._fed(name, array)

    def _moved_before(self, source: str, value: Any) -> Any:
        return to_tensor(self.moved[source]) if source in self.moved else value
