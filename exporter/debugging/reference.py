"""PyTorch's side of a cut-out: float32 values where the cuts are, float64 inside the pieces.

The float64 value of a tap is computed on the float32 reference values that its piece of the
ONNX graph reads, op by op, exactly as in the layer walk of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from exporter.debugging.pair import Pair
from exporter.graph.program import Op
from exporter.interpret.evaluate import call, call_double, is_floating, keep_decisions, to_tensor
from exporter.interpret.run import last_uses
from exporter.interpret.targets import moves_elements


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
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
    """Names of program values that pieces read as they are: taps at a cut, and constants."""
    return frozenset(t.tap.name for t in pair.planned if t.onnx_name in pair.cut or t.constant)


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


def run_reference(
    pair: Pair, keep: Iterable[str], wide: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the captured program in float32 as far as it takes.

    Args:
        keep: names of values to return (weights and inputs among them).
        wide: names of values that are also wanted from a free float64 run.

    Returns:
        the float32 values, and the float64 ones, as torch values by name.
    """
    program = pair.program
    wanted, doubled = set(keep), _behind(pair, wide)
    values: dict[str, Any] = {n: to_tensor(pair.case.inputs[n]) for n in program.inputs}
    values |= {name: program.tensors[key] for name, key in program.weights.items()}
    double: dict[str, Any] = {}
    kept, kept_wide = {n: values[n] for n in wanted if n in values}, {}
    last = last_uses(program)
    needed = _behind(pair, wanted) | doubled
    with torch.no_grad():
        for index, op in enumerate(program.ops):
            if op.name in needed:
                value = values[op.name] = call(op, values.__getitem__)
                if op.name in doubled and is_floating(value):
                    exact = call_double(op, lambda n: double[n] if n in double else values[n])
                    double[op.name] = keep_decisions(exact, value)
                if op.name in wanted:
                    kept[op.name] = value
                if op.name in doubled:
                    kept_wide[op.name] = double.get(op.name, value)
            for name in last.get(index, ()):
                values.pop(name, None)
                double.pop(name, None)
                if name not in wide:
                    kept_wide.pop(name, None)
    asked = set(wide)
    return kept, {name: value for name, value in kept_wide.items() if name in asked}


def _behind(pair: Pair, names: Iterable[str]) -> set[str]:
    needed = set(names)
    for op in reversed(pair.program.ops):
        if op.name in needed:
            needed.update(op.refs())
    return needed


def truth_of(
    pair: Pair, names: Iterable[str], reference: Mapping[str, Any], stops: frozenset[str]
) -> Truth:
    """Float64 values of taps on the float32 values of everything in ``stops``.

    Args:
        reference: holds what ``region_of(pair, names, stops)`` says is entering, and for
            each op of the region its own float32 value.
    """
    region = region_of(pair, names, stops)
    local: dict[str, Any] = {}

    def lookup(name: str) -> Any:
        return local[name] if name in local and name not in stops else reference[name]

    def is_exact(name: str) -> bool:
        return name in stops or name not in local or local[name] is reference.get(name)

    with torch.no_grad():
        for op in region.ops:
            value = reference[op.name]
            moved = moves_elements(op.target) and all(is_exact(name) for name in op.refs())
            if not is_floating(value) or moved:
                local[op.name] = value
            else:
                local[op.name] = keep_decisions(call_double(op, lookup), value)
    found = {name: local[name] for name in names if name in local}
    exact = frozenset(n for n, v in found.items() if v is reference[n])
    return Truth(values=found, exact=exact)
