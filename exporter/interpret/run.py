"""Run a whole captured program: in float32, and in float64 beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from exporter.core.stopwatch import RUNNING, timed
from exporter.graph.program import Program
from exporter.interpret.decisions import is_drawn
from exporter.interpret.evaluate import (
    call,
    call_double,
    is_floating,
    keep_decisions,
    to_array,
    to_tensor,
    widen,
)
from exporter.interpret.targets import resolve


def run_program(program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the whole captured program in its own precision; returns its outputs by public name.

    Values are dropped after their last use.
    """
    return _run(program, inputs, frozenset(), {})[0]


def run_with_truth(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    wide: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run in float32 and, for what the floating outputs depend on, in float64 beside it.

    The float64 run takes integers and booleans from the float32 run, so both see the same
    segments. Integer outputs are in both results, and equal.

    Args:
        program: what is run.
        inputs: by name.
        wide: float64 values of inputs that carry state, for the float64 run.
    """
    return _run(program, inputs, _needed_for_floats(program), wide or {})


def _run(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    doubled: frozenset[str],
    wide_inputs: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    values: dict[str, Any] = {name: to_tensor(inputs[name]) for name in program.inputs}
    values |= {name: program.tensors[key] for name, key in program.weights.items()}
    wide: dict[str, Any] = {name: to_tensor(array) for name, array in wide_inputs.items()}
    last = last_uses(program)

    def wide_or_plain(name: str) -> Any:
        return wide[name] if name in wide else values[name]

    with torch.no_grad(), timed(RUNNING):
        for index, op in enumerate(program.ops):
            value = call(op, values.__getitem__)
            if op.name in doubled and is_floating(value):
                drawn = is_drawn(resolve(op.target), op.args)
                wide[op.name] = (
                    widen(value) if drawn else keep_decisions(call_double(op, wide_or_plain), value)
                )
            values[op.name] = value
            for name in last.get(index, ()):
                values.pop(name, None)
                wide.pop(name, None)
    pairs = list(zip(program.outputs, program.output_names, strict=True))
    plain = {label: to_array(values[name]) for name, label in pairs}
    return plain, {label: to_array(wide_or_plain(name)) for name, label in pairs}


def _needed_for_floats(program: Program) -> frozenset[str]:
    """Values that a floating output depends on; nothing else needs a float64 run."""
    producers = {op.name: op for op in program.ops}
    floating = {
        op.name
        for op in program.ops
        if op.name in program.outputs and not op.dtype.startswith(("int", "uint", "bool"))
    }
    needed: set[str] = set()
    stack = list(floating)
    while stack:
        name = stack.pop()
        if name not in needed and name in producers:
            needed.add(name)
            stack.extend(producers[name].refs())
    return frozenset(needed)


def last_uses(program: Program) -> dict[int, tuple[str, ...]]:
    """Index of an op -> values that no later op reads and that are not outputs."""
    final: dict[str, int] = {}
    for index, op in enumerate(program.ops):
        final[op.name] = index
        for name in op.refs():
            final[name] = index
    released: dict[int, list[str]] = {}
    for name, index in final.items():
        if name not in program.outputs and name not in program.weights:
            released.setdefault(index, []).append(name)
    return {index: tuple(names) for index, names in released.items()}
