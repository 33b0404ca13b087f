"""What rounding costs, from several draws: a program beside float64, each value rounded anew.

One loop for all kinds of rounding: other orders of summation (``reordered``), and values and
weights that a file stores in a coarser format (``held_cost``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.graph.program import Op, Program
from exporter.interpret.evaluate import (
    call,
    call_double,
    is_floating,
    keep_decisions,
    to_array,
    to_tensor,
)
from exporter.interpret.run import last_uses
from exporter.parity.compare import measure
from exporter.parity.measurement import Distance

Values = dict[str, Any]
Draw = Callable[[Op, Values, Values, Values, torch.Generator], Any]
"""``draw(op, drawn, plain, wide, generator)``: the op's value in one draw, ``None`` for the float64
one. ``drawn`` holds this draw's values so far, ``plain`` the program's own, ``wide`` float64's."""


def draw_costs(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    names: Iterable[str],
    draw: Draw,
    *,
    draws: int,
    cuts: Collection[str] = (),
) -> dict[str, Distance]:
    """Worst distance to float64, over ``draws`` draws, of floating values.

    Integers and booleans are those of the program's own run in every draw.

    Args:
        names: values of the program (not public output names).
        cuts: values behind which everybody goes on with the program's own: the cost of one piece
            by itself.

    Returns:
        per name, the largest ``max_abs`` and ``rms`` that a draw had.
    """
    wanted = set(names)
    generators = [torch.Generator().manual_seed(seed) for seed in range(draws)]
    plain: Values = {name: to_tensor(inputs[name]) for name in program.inputs}
    plain |= {name: program.tensors[key] for name, key in program.weights.items()}
    wide: Values = {}
    drawn: list[Values] = [{} for _ in generators]
    found: dict[str, Distance] = {}
    last = last_uses(program)
    needed = _behind(program, wanted)
    with torch.no_grad():
        for index, op in enumerate(program.ops):
            if op.name not in needed:
                continue
            value = call(op, plain.__getitem__)
            plain[op.name] = value
            if is_floating(value):
                exact = call_double(op, lambda name: wide.get(name, plain[name]))
                wide[op.name] = keep_decisions(exact, value)
                for store, generator in zip(drawn, generators, strict=True):
                    new = draw(op, store, plain, wide, generator)
                    if new is not None:
                        store[op.name] = keep_decisions(new, value)
            if op.name in wanted and op.name in wide:
                found[op.name] = _worst(op.name, wide, value, drawn)
            gone = last.get(index, ())
            for store in (plain, wide, *drawn):
                for name in gone:
                    store.pop(name, None)
            if op.name in cuts:
                for store in (wide, *drawn):
                    store.pop(op.name, None)
    return found


def _behind(program: Program, names: set[str]) -> set[str]:
    """All values that ``names`` depend on, and themselves."""
    needed = set(names)
    for op in reversed(program.ops):
        if op.name in needed:
            needed.update(op.refs())
    return needed


def _worst(name: str, wide: Values, value: Tensor, drawn: list[Values]) -> Distance:
    truth = to_array(wide[name])
    own = [
        measure(name, truth=truth, reference=to_array(value), actual=to_array(store[name])).actual
        for store in drawn
        if name in store
    ]
    held = [d for d in own if d is not None and d.max_abs is not None and d.rms is not None]
    return Distance(
        elements=truth.size,
        max_abs=max((d.max_abs or 0.0 for d in held), default=None),
        rms=max((d.rms or 0.0 for d in held), default=None),
    )
