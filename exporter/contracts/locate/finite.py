"""NaN and infinities in what comes out: how many there are, and which op makes them first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from exporter.contracts.locate.first import first_op, first_value
from exporter.contracts.result import Location
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays

_POLES = ("log", "div", "reciprocal", "rsqrt", "pow")


def not_finite(outputs: Mapping[str, np.ndarray]) -> str | None:
    """Which output holds values that are no numbers, in words; ``None`` when none does."""
    for name, value in outputs.items():
        if value.dtype.kind == "f" and (count := int((~np.isfinite(value)).sum())):
            return f"{count} of {value.size} values of '{name}' are NaN or infinite"
    return None


def first_op_not_finite(
    target: Target, inputs: Arrays, *, row: int | None = None, rows: int = 1
) -> Location | None:
    """The first op of PyTorch that makes something not finite.

    Args:
        row: the one of ``rows`` whose input is not finite, so that it may stay so.
    """

    def judge(op: str, values: tuple[np.ndarray, ...]) -> bool:
        return _spoiled(op, values[0], row, rows)

    return first_op(target, (inputs,), "", judge)


def first_value_not_finite(
    target: Target, inputs: Arrays, *, row: int | None = None, rows: int = 1
) -> Location | None:
    """The same in the ONNX file."""

    def judge(key: str, values: tuple[np.ndarray, ...]) -> bool:
        return _spoiled(target.onnx.place(key).op, values[0], row, rows)

    return first_value(target, (inputs,), judge)


def _spoiled(op: str, value: np.ndarray, row: int | None, rows: int) -> bool:
    """NaN anywhere, or Inf; -inf is how masks are made and counts only where an op has a pole."""
    if value.dtype.kind != "f":
        return False
    bad = np.isnan(value) | (value == np.inf)
    parts = op.lower().split(".")  # aten.log.default, or Log in a file
    if parts[1 if len(parts) > 1 else 0].startswith(_POLES):
        bad |= value == -np.inf
    if row is None:
        return bool(bad.any())
    position = next((k for k, size in enumerate(value.shape) if size == rows), None)
    if position is None:
        return False
    return bool(np.delete(bad, row, axis=position).any())
