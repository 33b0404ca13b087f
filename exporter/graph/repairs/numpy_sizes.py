"""``int(np.ceil(x.shape[1] / 2))``: numpy makes a plain number of a size, and that of the example.

While a model is traced, ``np`` of the modules that hold its code is a copy of numpy in which the
functions below return sizes of the graph where they are given some; the package is left alone.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from exporter.graph.repairs.frame import Log

_SYMBOLIC = (torch.SymInt, torch.SymFloat)


def numpy_of_sizes(seen: Log) -> dict[int, Any]:
    """``id`` of numpy and of these functions -> what stands in its place."""
    ours = {name: _own(name, function, seen) for name, function in _FUNCTIONS.items()}
    copy = types.ModuleType("numpy")
    vars(copy).update(vars(np) | ours)
    return {id(np): copy, **{id(getattr(np, name)): own for name, own in ours.items()}}


def _own(name: str, of_sizes: Callable[[Any], Any], seen: Log) -> Callable[..., Any]:
    plain = getattr(np, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if len(args) == 1 and not kwargs else None
        sizes = given if isinstance(given, (list, tuple)) else (given,)
        if not any(isinstance(size, _SYMBOLIC) for size in sizes):
            return plain(*args, **kwargs)
        seen.at(f"numpy.{name}()")
        return of_sizes(given)

    return function


def _prod(sizes: Any) -> Any:
    return math.prod(sizes) if isinstance(sizes, (list, tuple)) else sizes


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "prod": _prod,
    "ceil": math.ceil,
    "floor": math.floor,
}
