"""Which float64 values a case is judged against, and what float32 costs there.

    eager float64       the module's own code: the truth of all, the program included
    captured float64    where the module's code does not run in float64, or is another function
                        there (``torch.finfo(x.dtype).eps``, ``if x.dtype == ...``). The captured
                        program is then held against the eager module in float32, and may be as far
                        from it as its own float32 is from its own float64. Said in the report.

What a capture may be wrong by never enters its own limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from exporter.core.errors import first_line
from exporter.core.tensors import Arrays, TensorSpec
from exporter.graph.program import Program
from exporter.graph.unwritten_memory import allocates
from exporter.interpret.allowed_ops import memory_filled
from exporter.interpret.decisions import SEED, seeded
from exporter.interpret.eager import EagerRun, run_eager, same
from exporter.interpret.run_program import run_program, run_with_truth
from exporter.parity.tolerance import FORMATS, Policy

Specs = tuple[Sequence[TensorSpec], Sequence[TensorSpec]]
"""Of inputs and outputs, in order."""

_DOUBTED = 16.0
"""Floors of the policy from which on float32's cost is looked at a second time."""
_IMPLAUSIBLE = 8.0
"""Times what float32 costs the captured program: no cost of rounding, but another function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """Float64 values, and float32 PyTorch's, whose distance is what float32 costs."""

    truth: Arrays
    reference: Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What one case is judged by.

    Attributes:
        eager: what the module gave; None without a module.
        captured: what the captured program gave; empty when it stopped. stopped: why, or "".
        capture: for the comparison of the two. behind: for every station behind them.
        unwritten: an output that hangs on memory nobody wrote, and where that is allocated; "".
        doubt: why ``behind`` does not come from the module; "".
    """

    eager: EagerRun | None
    captured: Arrays
    stopped: str
    capture: Yardstick
    behind: Yardstick
    unwritten: str = ""
    doubt: str = ""


def find_truth(
    module: nn.Module | None,
    program: Program,
    specs: Specs,
    inputs: Arrays,
    wide: Arrays | None = None,
) -> Truth:
    """Run the module and the program on one case, in float32 and float64.

    Args:
        module: None when only the program is at hand; truth is then its float64 run.
        wide: float64 values of inputs that carry state.
    """
    if module is None:
        captured, truth = run_with_truth(program, inputs, wide)
        yardstick = Yardstick(truth=truth, reference=captured)
        return Truth(eager=None, captured=captured, stopped="", capture=yardstick, behind=yardstick)
    eager = run_eager(module, *specs, inputs, wide=wide)
    captured, stopped = _captured(program, inputs)
    unwritten = "" if stopped else _unwritten(program, inputs, captured)

    def judged_by(capture: Yardstick, behind: Yardstick, doubt: str = "") -> Truth:
        return Truth(
            eager=eager,
            captured=captured,
            stopped=stopped,
            capture=capture,
            behind=behind,
            unwritten=unwritten,
            doubt=doubt,
        )

    yardstick = Yardstick(truth=eager.truth or _as_double(eager.outputs), reference=eager.outputs)
    if stopped or (eager.truth is not None and not _doubtful(yardstick)):
        # Of a program that stopped there is nothing to hold the module's figures against.
        return judged_by(yardstick, yardstick, eager.doubt)
    with seeded(SEED):
        plain, wide_truth = run_with_truth(program, inputs, wide)
    own = Yardstick(truth=wide_truth, reference=plain)
    doubt = eager.doubt
    if eager.truth is not None:
        odd = _implausible(yardstick, own)
        if not odd:
            return judged_by(yardstick, yardstick)
        doubt = (
            f"in float64 its code computes another function: '{odd}' moves by far more than"
            " float32's rounding explains (does it ask for its dtype?)"
        )
    return judged_by(_direct(eager.outputs, own), own, doubt)


def program_yardstick(program: Program, inputs: Arrays) -> Yardstick:
    """The program's own: for what lies behind a capture that is not the module."""
    with seeded(SEED):
        plain, truth = run_with_truth(program, inputs)
    return Yardstick(truth=truth, reference=plain)


def _captured(program: Program, inputs: Arrays) -> tuple[Arrays, str]:
    """Outputs of the program; none, and torch's words, where it cannot run at these sizes."""
    try:
        with seeded(SEED):
            return run_program(program, inputs), ""
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        return {}, first_line(error, 300)


def _unwritten(program: Program, inputs: Arrays, captured: Arrays) -> str:
    """What other memory than zeros changes, where a program allocates some."""
    places = [op for op in program.ops if allocates(op.target)]
    if not places:
        return ""
    with seeded(SEED), memory_filled(float("nan")):
        other = run_program(program, inputs)
    changed = [name for name, value in captured.items() if not same(value, other[name])]
    if not changed:
        return ""
    where = next((f" at {op.source}" for op in places if op.source), "")
    return f"output '{changed[0]}' hangs on memory that nobody wrote ({places[0].target}{where})"


def _as_double(values: Arrays) -> Arrays:
    return {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in values.items()}


def _direct(eager: Arrays, own: Yardstick) -> Yardstick:
    """The eager values as truth, with the cost that float32 has for the program."""
    reference = dict(eager)
    for name, value in eager.items():
        plain, truth = own.reference.get(name), own.truth.get(name)
        if value.dtype.kind != "f" or plain is None or truth is None or plain.shape != value.shape:
            continue
        cost = plain.astype(np.float64) - truth
        cost = np.where(np.isfinite(cost), cost, 0.0)
        reference[name] = (value.astype(np.float64) + cost).astype(value.dtype)
    return Yardstick(truth=_as_double(eager), reference=reference)


def _doubtful(yardstick: Yardstick) -> bool:
    """Whether some output costs float32 more than most models do."""
    policy = Policy()
    for name, truth in yardstick.truth.items():
        value = yardstick.reference[name]
        cost, scale = _rms_cost(yardstick, name)
        if cost is None or value.dtype.kind != "f" or not truth.size:
            continue
        unit = FORMATS[value.dtype.name if value.dtype.name in FORMATS else "float32"].roundoff
        if not cost <= _DOUBTED * policy.floor_rms_ulps * unit * scale:
            return True
    return False


def _implausible(yardstick: Yardstick, own: Yardstick) -> str:
    """The first output whose float64 values are not those of the same function; "" for none."""
    for name in yardstick.truth:
        cost, scale = _rms_cost(yardstick, name)
        rounding, _ = _rms_cost(own, name)
        if cost is None or rounding is None:
            continue
        unit = FORMATS["float32"].roundoff
        floor = _DOUBTED * Policy().floor_rms_ulps * unit * scale
        if not cost <= max(_IMPLAUSIBLE * rounding, floor):
            return name
    return ""


def _rms_cost(yardstick: Yardstick, name: str) -> tuple[float | None, float]:
    """The rms of float32's error over the finite values of an output, and that of its values."""
    truth, plain = yardstick.truth.get(name), yardstick.reference.get(name)
    if truth is None or plain is None or truth.dtype.kind != "f" or truth.shape != plain.shape:
        return None, 0.0
    if not truth.size:
        return 0.0, 0.0
    with np.errstate(all="ignore"):
        gap = plain.astype(np.float64) - truth
        finite = np.isfinite(gap)
        if not finite.any():
            return None, 0.0
        cost = float(np.sqrt(np.square(gap[finite]).mean()))
        return cost, float(np.sqrt(np.square(truth[finite]).mean()))
