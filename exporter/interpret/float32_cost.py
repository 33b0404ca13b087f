"""What rounding costs a program, from more than one draw.

A free run's largest error may sit at one element that some op amplifies (the log of a nearly
empty mel bin). PyTorch's error there is one draw of rounding noise and may happen to be small.
Further draws come from the same program with the terms of its sums in another order: correct
float32 implementations all, none of which knows the ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.graph.program import Op, Program
from exporter.interpret.evaluate import (
    call,
    is_floating,
    keep_decisions,
    operands_of,
    to_array,
    widen,
)
from exporter.interpret.reordered_products import PRODUCTS
from exporter.interpret.reordered_sums import SUMS, Generator, NoOtherOrderError
from exporter.interpret.stepper import Draw, Stepper, Values, start_values
from exporter.parity.compare import measure
from exporter.parity.measurement import Distance

DRAWS = 8
_REORDERED = SUMS | PRODUCTS


def float32_cost(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    names: Iterable[str],
    *,
    draws: int = DRAWS,
) -> dict[str, Distance]:
    """Worst distance to float64, over ``draws`` orders of summation, of floating values.

    Integers and booleans are those of the ordinary float32 run in every draw.

    Args:
        names: values of the program (not public output names).

    Returns:
        per name, the largest ``max_abs`` and ``rms`` that a draw had.
    """
    return draw_costs(program, inputs, names, _reordered, draws=draws)


def draw_costs(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    names: Iterable[str],
    draw: Draw,
    *,
    draws: int,
    cuts: Collection[str] | None = None,
) -> dict[str, Distance]:
    """The same for any way to draw.

    Args:
        cuts: values behind which everybody goes on with the program's own: the cost of one piece
            by itself.
    """
    # Integers have no distance; what only they rest on is not drawn.
    wanted = frozenset(names) - {op.name for op in program.ops if op.discrete}
    stepper = Stepper(
        program,
        start_values(program, inputs),
        wanted=wanted,
        free=wanted if cuts is None else (),
        cuts=cuts,
        draw=draw,
        draws=draws,
    )
    read = stepper.read_free if cuts is None else stepper.read_local
    costs: dict[str, Distance] = {}
    for op, value in stepper.steps():
        if op.name in wanted and is_floating(value):
            drawn = [store[op.name] for store in stepper.drawn if op.name in store]
            costs[op.name] = _worst(op.name, to_array(widen(read(op.name))), value, drawn)
    return costs


def cost_of(
    op: Op, lookup: Callable[[str], Any], truth: np.ndarray, *, draws: int = DRAWS
) -> Distance:
    """Worst distance to float64 that one op has by itself, over orders of summation.

    Args:
        lookup: float32 values that the op reads. truth: float64 on the same values.
    """
    with torch.no_grad():
        value = call(op, lookup)
        plain = {name: lookup(name) for name in op.refs()}
        generators = [torch.Generator().manual_seed(seed) for seed in range(draws)]
        drawn = [_reordered(op, {}, plain, {}, generator) for generator in generators]
        return _worst(op.name, truth, value, [keep_decisions(new, value) for new in drawn])


def _worst(name: str, truth: np.ndarray, value: Tensor, drawn: list[Tensor]) -> Distance:
    own = [
        measure(name, truth=truth, reference=to_array(value), actual=to_array(new)).actual
        for new in drawn
    ]
    distances = [d for d in own if d is not None and d.max_abs is not None and d.rms is not None]
    return Distance(
        elements=truth.size,
        max_abs=max((d.max_abs or 0.0 for d in distances), default=None),
        rms=max((d.rms or 0.0 for d in distances), default=None),
    )


def _reordered(
    op: Op, drawn: Values, plain: Values, exact: Values, generator: torch.Generator
) -> Any:
    def lookup(name: str) -> Any:
        return drawn[name] if name in drawn else plain[name]

    result = None
    if op.target in _REORDERED:
        result = another_order(op.target, generator, *operands_of(op, lookup))
    return call(op, lookup) if result is None else result


def another_order(
    target: str, generator: Generator, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tensor | None:
    """What an op gives with its terms in another order; None where these arguments leave one."""
    asked = {**kwargs}
    if asked.pop("dtype", None) not in (None, getattr(args[0], "dtype", None)):
        return None
    try:
        return _REORDERED[target](generator, *args, **asked)
    except NoOtherOrderError:
        return None
