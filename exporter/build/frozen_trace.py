"""Whether a trace is of any use beyond the sizes that were traced."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch

from exporter.core.errors import first_line
from exporter.core.tensors import Axis
from exporter.graph.program import Program
from exporter.graph.wrap import Wrapped
from exporter.interpret.run_program import run_program


def frozen_axis(wrapped: Wrapped, program: Program) -> str:
    """The first axis of which a program takes the traced size alone, and how that shows; "".

    Each axis is moved to a few other sizes that the module takes. Where the program stops at all of
    them, or gives outputs of other shapes, it has been made for one size.
    """
    axes = {axis.name: axis for spec in wrapped.inputs for axis in spec.axes}
    for name in wrapped.sizes:
        problems = [_problem(wrapped, program, at) for at in _moved(wrapped, axes[name])]
        shown = [problem for problem in problems if problem is not None]
        if shown and all(shown):
            return f"it takes {name} {wrapped.sizes[name]} alone ({shown[0]})"
    return ""


def _moved(wrapped: Wrapped, axis: Axis) -> Iterator[dict[str, int]]:
    here, step = wrapped.sizes[axis.name], axis.multiple_of
    for size in (here + step, here + 2 * step, 2 * here, here - step):
        if size >= 1 and axis.takes(size):
            yield {**wrapped.sizes, axis.name: size}


def _problem(wrapped: Wrapped, program: Program, at: Mapping[str, int]) -> str | None:
    """What is wrong at some sizes; "" for nothing, None where the module does not take them."""
    if wrapped.example_at is None:
        return None
    try:
        values = wrapped.example_at(at)
        with torch.no_grad():
            expected = copy.deepcopy(wrapped.module)(*(v.clone() for v in values.values()))
    except Exception:  # noqa: BLE001 - whatever a user's model raises at a size of our choice
        return None
    words = ", ".join(f"{name} {size}" for name, size in at.items())
    try:
        outputs = run_program(program, {name: value.numpy() for name, value in values.items()})
    except Exception as error:  # noqa: BLE001 - a trace of one size stops in many ways at another
        return f"it stops at {words}: {first_line(error, 120)}"
    for spec, value in zip(wrapped.outputs, expected, strict=True):
        if outputs[spec.name].shape != tuple(value.shape):
            shapes = f"{list(outputs[spec.name].shape)}, not {list(value.shape)}"
            return f"'{spec.name}' is {shapes} at {words}"
    return ""
