"""PyTorch's side of a cut-out: float32 values where the cuts are, float64 inside the pieces.

The float64 value of a tap is computed on the float32 reference values that its piece of the
ONNX graph reads, op by op, by what computes it in the layer walk of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from exporter.debugging.pair import Pair
from exporter.execution.products import Products
from exporter.graph.program import Op
from exporter.interpret.stepper import Stepper


@dataclass(frozen=True, slots=True, kw_only=True)
class TapTruth:
    """Values of taps, by tap name.

    Attributes:
        values: float64 (integers and booleans as in the reference).
        exact: taps whose op only moves elements that are taps themselves: bits must be equal.
    """

    values: Mapping[str, Any]
    exact: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The ops that decide some taps, and the values that come in from outside.

    Attributes:
        ops: in program order.
        entering: names of values that the ops read and do not compute.
    """

    ops: tuple[Op, ...]
    entering: frozenset[str]


def boundary(pair: Pair) -> frozenset[str]:
    """Names of program values that pieces of the file read from outside: taps at a cut.

    A constant that the file holds is part of the pieces that read it.
    """
    return frozenset(tap.tap.name for tap in pair.planned if tap.onnx_name in pair.cut)


def region_of(pair: Pair, names: Iterable[str], stops: frozenset[str]) -> Region:
    """The ops behind ``names``, back to values in ``stops``, weights and inputs.

    Args:
        names: taps; they are computed even when they are in ``stops`` themselves.
    """
    program = pair.program
    producers = {op.name: op for op in program.ops}
    wanted = [name for name in names if name in producers]
    needed, entering, stack = set(wanted), set[str](), list(wanted)
    while stack:
        for name in producers[stack.pop()].refs():
            if name in needed or name in entering:
                continue
            if name in stops or name not in producers:
                entering.add(name)
            else:
                needed.add(name)
                stack.append(name)
    # A tap that is asked for may also enter another one's piece; both are true.
    entering |= {n for op in program.ops if op.name in needed for n in op.refs() if n in stops}
    ops = tuple(op for op in program.ops if op.name in needed)
    return Region(ops=ops, entering=frozenset(entering))


def truth_of(
    pair: Pair, names: Iterable[str], reference: Mapping[str, Any], stops: frozenset[str]
) -> TapTruth:
    """Float64 values of taps on the float32 values of everything in ``stops``.

    Args:
        reference: holds what ``region_of(pair, names, stops)`` says is entering, and for
            each op of the region its own float32 value.
    """
    stepper = Stepper(pair.program, dict(reference), cuts=stops, multiply=Products().multiply)
    wanted, values, exact = set(names), dict[str, Any](), set[str]()
    with torch.no_grad():
        for op in region_of(pair, wanted, stops).ops:
            stepper.float64(op)
            if op.name in wanted:
                values[op.name] = stepper.read_local(op.name)
                if stepper.is_moved(op.name):
                    exact.add(op.name)
            stepper.restart(op.name)
    return TapTruth(values=values, exact=frozenset(exact))
