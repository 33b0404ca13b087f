"""What a captured program's ``cond``, ``while_loop`` and ``scan`` do, on blocks that can be called.

A decision is taken in the precision of whoever runs it; a program that decides by values that hang
on rounding may take another way in float64, as a module may.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Run = Callable[..., Sequence[Any]]


def cond(pred: Any, then: Run, other: Run, operands: Sequence[Any] = ()) -> Any:
    """One of two blocks."""
    return (then if bool(pred) else other)(*operands)


def while_loop(
    go_on: Run, body: Run, carried: Sequence[Any], more: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """A block over and over, on what it gave the last time."""
    state = list(carried)
    while bool(_only(go_on(*state, *more))):
        state = list(body(*state, *more))
    return tuple(state)


def scan(body: Run, first: Sequence[Any], over: Sequence[Any], more: Sequence[Any]) -> list[Any]:
    """A block for each step of the first axis; what it carries, then the steps, stacked."""
    state, steps = list(first), []
    for step in range(over[0].shape[0]):
        results = list(body(*state, *(value[step] for value in over), *more))
        state = results[: len(state)]
        steps.append(results[len(state) :])
    if not steps:  # what a step would give tells the shapes
        results = body(*state, *(value.new_zeros(value.shape[1:]) for value in over), *more)
        return [*state, *(each.new_zeros((0, *each.shape)) for each in results[len(state) :])]
    return [*state, *(torch.stack(list(each)) for each in zip(*steps, strict=True))]


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, (tuple, list)) else value


CONTROL_FLOW: dict[str, Callable[..., Any]] = {
    "higher_order.cond": cond,
    "higher_order.while_loop": while_loop,
    "higher_order.scan": scan,
}


class OpMode(TorchDispatchMode):
    """Sees every op of what runs, those inside of branches and loops too: they run as Python."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self._eager = contextlib.ExitStack()

    def __enter__(self) -> Any:
        # Called from Python they are compiled first, and the compiler would trace this mode.
        if "torch._dynamo" in sys.modules:
            self._eager.enter_context(torch.compiler.set_stance("force_eager"))
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._eager.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not isinstance(func, torch._ops.HigherOrderOperator):
            return self.op(func, args, kwargs or {})
        run = CONTROL_FLOW.get(f"higher_order.{func.name()}")
        if run is None:
            return func(*args, **(kwargs or {}))
        with self:
            return run(*args, **(kwargs or {}))

    def op(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run one op of torch's."""
        return func(*args, **kwargs)
