"""``int(np.ceil(x.shape[1] / 2))``: numpy makes a plain number of a size, and that of the example.

While a model is traced, ``np`` and ``math`` of the modules that hold its code are copies in which
the functions and the classes of numbers below return sizes of the graph where they are given some;
the packages are left alone. Classes that hold few digits (``np.int16``, ``np.float32``) are not of
these: what is computed in them goes round or is rounded, as sizes of the graph are not.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from exporter.graph.repairs.class_stand_in import stand_in
from exporter.graph.repairs.frame import Log

_SYMBOLIC = (torch.SymInt, torch.SymFloat)


def numpy_of_sizes(seen: Log) -> dict[int, Any]:
    """``id`` of numpy, math, and of these functions and classes -> what stands in its place."""
    stands: dict[int, Any] = {}
    for module, functions in _FUNCTIONS.items():
        for name, of_sizes in functions.items():
            plain = getattr(module, name)
            stands[id(plain)] = _own(module, name, of_sizes, seen)
    for kind, of_sizes in _NUMBERS.items():
        called = _own(np, kind.__name__, of_sizes, seen)
        stands[id(kind)] = stand_in(kind, called, bases=(kind,), dtype=np.dtype(kind))
    copies: dict[int, Any] = {}
    for module in _FUNCTIONS:
        copies[id(module)] = types.ModuleType(module.__name__)
        own = {name: stands.get(id(value), value) for name, value in vars(module).items()}
        vars(copies[id(module)]).update(own)
    return stands | copies


def _own(
    module: types.ModuleType, name: str, of_sizes: Callable[..., Any], seen: Log
) -> Callable[..., Any]:
    plain = getattr(module, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if len(args) == 1 else None
        sizes = first if isinstance(first, (list, tuple)) else args
        if kwargs or not any(isinstance(size, _SYMBOLIC) for size in sizes):
            return plain(*args, **kwargs)
        seen.at(f"{module.__name__}.{name}()")
        return of_sizes(*args)

    return function


def _prod(sizes: Any) -> Any:
    return math.prod(sizes) if isinstance(sizes, (list, tuple)) else sizes


_sqrt: Callable[[Any], Any] = torch._sym_sqrt  # type: ignore[attr-defined]
_FUNCTIONS: dict[types.ModuleType, dict[str, Callable[..., Any]]] = {
    math: {"sqrt": _sqrt},
    np: {
        "prod": _prod,
        "ceil": math.ceil,
        "floor": math.floor,
        "trunc": math.trunc,
        "rint": round,
        "round": round,
        "around": round,
        "sqrt": _sqrt,
        "minimum": torch.sym_min,
        "maximum": torch.sym_max,
    },
}
_NUMBERS: dict[type, Callable[[Any], Any]] = {
    np.int32: math.trunc,
    np.int64: math.trunc,
    np.float64: torch.sym_float,
}
