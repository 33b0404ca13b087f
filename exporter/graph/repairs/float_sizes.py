"""``torch.as_tensor(new_rate * length / old_rate)``: a number with digits, computed of sizes.

torch traces no tensor of such a number. Here it is computed in the graph as Python and torch
compute it: sizes are divided in float64, and the tensor rounds to its own type. Exact fractions
would be another model: 160 * 180697 / 441 is 65559.0023, which is 65559 in float32, and ``ceil`` of
it gives a sample less than of the fraction.

What is then made a whole number is a size that is read from data. Of that torch has to know how
small it can be, or it refuses most of what comes behind; so these tensors are followed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_ROUNDED: dict[Any, Callable[[float], int]] = {
    torch.ceil: math.ceil,
    Tensor.ceil: math.ceil,
    torch.floor: math.floor,
    Tensor.floor: math.floor,
    torch.trunc: math.trunc,
    Tensor.trunc: math.trunc,
    torch.round: round,
    Tensor.round: round,
}
_WHOLE = {Tensor.long: torch.int64, Tensor.int: torch.int32}
_OPS: dict[str, Callable[..., Any]] = {
    "IntTrueDiv": operator.truediv,
    "FloatTrueDiv": operator.truediv,
    "ToFloat": lambda number: number,
    "Add": lambda *parts: reduce(operator.add, parts),
    "Mul": lambda *parts: reduce(operator.mul, parts),
}
"""As sympy and torch name them."""


class FloatSizes:
    """The tensors of a trace that are such numbers, and how small each can be.

    Args:
        whole: makes what passes for a tensor of one integer of a size and a dtype.
    """

    def __init__(self, whole: Callable[[Any, torch.dtype], Any]):
        self._lowest: Any = WeakIdKeyDictionary()
        self._whole = whole

    def made(self, number: torch.SymFloat, dtype: torch.dtype | None, device: Any) -> Tensor | None:
        """``[]``, the value of a number; None where it is computed in another way."""
        node = number.node
        value = _in_graph(node.expr, node.shape_env)
        if not isinstance(value, Tensor):
            return None
        tensor = value.to(dtype=dtype or torch.get_default_dtype(), device=device)
        lowest = float(node.shape_env.bound_sympy(node.expr).lower)
        self._lowest[tensor] = _as_kept(lowest, tensor.dtype)
        return tensor

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function gives of such a tensor; ``NotImplemented`` of all else."""
        tensor = args[0] if args else None
        if not isinstance(tensor, Tensor) or tensor not in self._lowest:
            return NotImplemented
        lowest = self._lowest[tensor]
        if func in _ROUNDED and len(args) == 1 and not kwargs:
            rounded = func(tensor)
            self._lowest[rounded] = _ROUNDED[func](lowest) if math.isfinite(lowest) else lowest
            return rounded
        asked = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.dtype)]
        wanted = asked[0] if func is Tensor.to and asked else _WHOLE.get(func)
        if wanted is None or wanted not in _WHOLE.values():
            return NotImplemented
        size = tensor.to(torch.int64).item()
        if math.isfinite(lowest):
            torch._check(size >= math.trunc(lowest))
        return self._whole(size, wanted)


def _as_kept(number: float, dtype: torch.dtype) -> float:
    """A number as a floating type keeps it: what is larger is not less in that type either."""
    if not math.isfinite(number):
        return number
    digits, power = math.frexp(number)
    units = 2 / torch.finfo(dtype).eps
    return math.ldexp(round(digits * units) / units, power)


def _in_graph(expr: Any, sizes: Any) -> Any:
    """A number in float64: a tensor, a Python number, or None where its op is not known."""
    if expr.is_Number:
        return float(expr)
    if expr.is_integer:
        size = sizes.create_symintnode(expr, hint=None)
        return torch.scalar_tensor(size, dtype=torch.float64)
    op, parts = _OPS.get(type(expr).__name__), [_in_graph(part, sizes) for part in expr.args]
    return None if op is None or any(part is None for part in parts) else op(*parts)
