"""Run a whole captured program: for its outputs, for some of its values, or tap by tap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.core.stopwatch import RUNNING, timed
from exporter.graph.program import Op, Program
from exporter.graph.taps import tap_ops
from exporter.interpret.evaluate import is_floating, to_array
from exporter.interpret.margins import Margin
from exporter.interpret.stepper import Stepper, Values, start_values


@dataclass(frozen=True, slots=True, kw_only=True)
class OpValues:
    """One tap of the program; valid until the next one is asked for.

    Attributes:
        reference: float32 PyTorch, free run.
        truth: float64 PyTorch, free run; integers and booleans are the reference's.
        margin: computes the float64 margins of a decision, ``None`` for other ops.
    """

    op: Op
    reference: np.ndarray
    truth: np.ndarray
    margin: Callable[[], Margin] | None


def run_program(program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the whole captured program in its own precision; returns its outputs by public name."""
    stepper = Stepper(program, start_values(program, inputs))
    _walk(stepper)
    return _outputs(program, stepper.plain.__getitem__)


def run_with_truth(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    wide: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run in float32 and, for what the floating outputs depend on, in float64 beside it.

    The float64 run takes integers, booleans and random numbers from the float32 run, so both see
    the same segments. Integer outputs are in both results, and equal.

    Args:
        program: what is run.
        inputs: by name.
        wide: float64 values of inputs that carry state, for the float64 run.
    """
    floating = [op.name for op in program.ops if op.name in program.outputs and not op.discrete]
    values = start_values(program, inputs)
    stepper = Stepper(program, values, free=floating, wide=wide, hold_draws=True)
    _walk(stepper)
    plain = _outputs(program, stepper.plain.__getitem__)
    return plain, _outputs(program, stepper.read_free)


def walk_taps(program: Program, inputs: Mapping[str, np.ndarray]) -> Iterator[OpValues]:
    """Yield every tap of the program (its tensors and sizes), in its order, with free float64."""
    taps = {op.name for op in tap_ops(program)}
    free = [op.name for op in program.ops]
    stepper = Stepper(program, start_values(program, inputs), free=free)
    for op, value in stepper.steps():
        if op.name in taps:
            yield OpValues(
                op=op,
                reference=to_array(value),
                truth=to_array(stepper.read_free(op.name)),
                margin=None if is_floating(value) else stepper.margin(op),
            )


def values_of(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    names: Iterable[str],
    free: Iterable[str] = (),
) -> tuple[Values, Values]:
    """Run as far as some values take it.

    Args:
        names: of float32 values (inputs and weights among them).
        free: of values that are wanted from a free float64 run.

    Returns:
        the float32 values, and the float64 ones, as torch values by name.
    """
    names, free = frozenset(names), frozenset(free)
    start = start_values(program, inputs)
    plain: dict[str, Any] = {name: start[name] for name in names if name in start}
    wide: dict[str, Any] = {}
    stepper = Stepper(program, start, wanted=names, free=free)
    for op, value in stepper.steps():
        if op.name in names:
            plain[op.name] = value
        if op.name in free:
            wide[op.name] = stepper.read_free(op.name)
    return plain, wide


def _walk(stepper: Stepper) -> None:
    with timed(RUNNING):
        for _ in stepper.steps():
            pass


def _outputs(program: Program, read: Callable[[str], Any]) -> dict[str, np.ndarray]:
    pairs = zip(program.outputs, program.output_names, strict=True)
    return {label: to_array(read(name)) for name, label in pairs}
