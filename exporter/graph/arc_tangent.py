"""``torch.atan2(y, x)`` in ONNX, which has none, with what C's gives where one of them is zero.

The exporter adds half a turn where x is negative, up where y > 0 and down elsewhere: on the
negative real axis, where the imaginary part of many spectra lies, it gives -pi in the place of pi,
and NaN for ``atan2(0, 0)``.

    y > 0, x < 0    atan(y / x) + pi        x = 0    +-pi / 2, by the sign of y
    y < 0, x < 0    atan(y / x) - pi        y = 0    y, or +-pi by its sign where x is negative

Two infinities give NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from exporter.graph.recurrent import op


def _atan2(self: Any, other: Any) -> Any:
    y, x = self, other

    def number(value: float) -> Any:
        return op.CastLike(op.Constant(value_float=value), y)

    def is_negative(value: Any) -> Any:
        return op.Or(op.Less(value, number(0.0)), op.Less(op.Reciprocal(value), number(0.0)))

    half_a_turn = op.Where(is_negative(y), number(-math.pi), number(math.pi))
    angle = op.Atan(op.Div(y, x))
    turned = op.Where(op.Less(x, number(0.0)), op.Add(angle, half_a_turn), angle)
    # NaN times zero is NaN, and stays.
    upright = op.Add(op.Mul(half_a_turn, number(0.5)), op.Mul(angle, number(0.0)))
    turned = op.Where(op.Equal(x, number(0.0)), upright, turned)
    along = op.Where(is_negative(x), half_a_turn, y)
    along = op.Where(op.IsNaN(x), x, along)
    return op.Where(op.Equal(y, number(0.0)), along, turned)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.atan2.default: _atan2,
}
