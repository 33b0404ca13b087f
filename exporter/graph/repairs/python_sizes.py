"""``len``, ``int``, ``max``, ``min``, ``sum`` of a model's own code, for sizes while it is traced;
``numpy.prod`` and its like (``numpy_sizes``).

Python insists that ``len()`` and ``int()`` return plain integers, so torch.export freezes the size
of the example there, or stops where the number is read from data. While a model is traced, the
modules that hold its code get these functions in the place of Python's: of a tensor or of a size
they return a symbolic size, of everything else what Python returns. No file is changed, and the
modules are afterwards what they were.
"""

from __future__ import annotations

import builtins
import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from exporter.graph.repairs.class_stand_in import stand_in
from exporter.graph.repairs.frame import Log, Repair, replaced_names
from exporter.graph.repairs.int_as_dtype import int_as_dtype
from exporter.graph.repairs.lists_of_sizes import is_symbolic_list, lists_stay_tensors
from exporter.graph.repairs.module_run import ModuleRun
from exporter.graph.repairs.numpy_sizes import numpy_of_sizes
from exporter.graph.repairs.size_numbers import SizeNumber

_SIZES = (torch.SymInt,)
_LEFT = frozenset({"torch", "numpy", "exporter", "builtins", "__main__"})


@contextlib.contextmanager
def symbolic_builtins(run: ModuleRun, seen: Log | None = None) -> Iterator[None]:
    """Replace these functions in the modules that hold a model's code, while the block runs."""
    seen = Log() if seen is None else seen
    ours, of_numpy = _functions(seen), numpy_of_sizes(seen)
    modules = _modules_of(run.module)
    added = [
        (held, name, own)
        for held in modules
        for name, own in ours.items()
        if name not in vars(held)
    ]
    changed = [
        (held, name, of_numpy[id(value)])
        for held in modules
        for name, value in vars(held).items()
        if id(value) in of_numpy
    ]
    with (
        replaced_names([*added, *changed]),
        int_as_dtype(ours["int"], [vars(held)["__file__"] for held in modules]),
        lists_stay_tensors(lambda: seen.at("tolist()")),
    ):
        yield


def _modules_of(module: nn.Module) -> list[ModuleType]:
    """All loaded modules of the packages that a model's classes come from."""
    classes = {kind for part in module.modules() for kind in type(part).__mro__}
    tops = {kind.__module__.partition(".")[0] for kind in classes} - _LEFT
    return [
        held
        for name, held in list(sys.modules.items())
        if name.partition(".")[0] in tops and isinstance(vars(held).get("__file__"), str)
    ]


def _functions(seen: Log) -> dict[str, Any]:
    def own_len(held: Any) -> Any:
        if is_symbolic_list(held):
            return held.tensor.shape[0]
        if isinstance(held, torch.Tensor) and held.dim():
            seen.at("len()")
            return held.shape[0]
        return builtins.len(held)

    def own_sum(held: Any, *args: Any, **kwargs: Any) -> Any:
        if is_symbolic_list(held) and not args and not kwargs:
            return held.tensor.sum().item()
        return builtins.sum(held, *args, **kwargs)

    return {
        "len": own_len,
        # What numpy asks a class for that is to be a dtype.
        "int": stand_in(builtins.int, _own_int(seen), also=_SIZES, dtype=np.dtype(builtins.int)),
        "max": _own_extreme(seen, "max", builtins.max, torch.sym_max),
        "min": _own_extreme(seen, "min", builtins.min, torch.sym_min),
        "sum": own_sum,
        "range": stand_in(builtins.range, _own_range(seen)),
    }


def _own_int(seen: Log) -> Callable[..., Any]:
    def whole(*args: Any, **kwargs: Any) -> Any:
        value = args[0] if len(args) == 1 and not kwargs else None
        value = value.number if isinstance(value, SizeNumber) else value
        if isinstance(value, (torch.SymInt, torch.SymFloat)):
            seen.at("int()")
            return math.trunc(value)  # type: ignore[arg-type]
        if isinstance(value, torch.Tensor):
            seen.at("int()")
            return (value.long() if value.is_floating_point() else value).item()
        return builtins.int(*args, **kwargs)

    return whole


def _own_range(seen: Log) -> Callable[..., Any]:
    """One step from 0 to a size is one turn, however large the size is."""

    def turns(*args: Any) -> Any:
        to_a_size = len(args) == 3 and isinstance(args[1], torch.SymInt) and args[0] == 0
        if to_a_size and statically_known_true(args[1] <= args[2]):
            seen.at("range()")
            return builtins.range(1)
        return builtins.range(*args)

    return turns


def _own_extreme(seen: Log, name: str, plain: Any, symbolic: Any) -> Any:
    def extreme(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and is_symbolic_list(args[0]):
            return getattr(args[0].tensor, name)().item()
        sizes = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
        sizes = [each.number if isinstance(each, SizeNumber) else each for each in sizes]
        mixed = all(isinstance(each, (int, *_SIZES)) for each in sizes)
        if kwargs or not mixed or not _any_symbolic(sizes):
            return plain(*args, **kwargs)
        seen.at(f"{name}()")
        found, *rest = sizes
        for each in rest:
            found = symbolic(found, each)
        return found

    return extreme


def _any_symbolic(sizes: Iterable[Any]) -> bool:
    return any(isinstance(each, _SIZES) for each in sizes)


REPAIR = Repair(
    name="python_sizes",
    replaces="these return sizes of the graph instead of Python's numbers",
    strategy="sizes in place of Python's numbers",
    matches=lambda run: True,
    apply=symbolic_builtins,
)
