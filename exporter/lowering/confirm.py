"""What confirms a choice: cases that had no part in it, and every layer by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporter.core.tensors import Case
from exporter.joining.interface_inputs import perturbed
from exporter.judge.links import EAGER
from exporter.parity.exit_code import decide
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, status_of
from exporter.report.schema import OutputRecord, Report


def by_themselves(judged: Report) -> Status:
    """Whether every layer of the file costs what its format costs, and the rest holds as well.

    The rest: the captured program is the module, no output is broken at any length, and
    what else decides beside the links. What adds up at outputs and decisions is not asked of
    ``verify``, which would let none turn: it is measured here, against what the user allows.
    """
    links = [link for link in judged.links if link.layers and link.compared]
    taps = [tap for link in links for layer in link.layers for tap in layer.taps]
    known = [status_of(tap.local_verdict.verdict) for tap in taps if tap.local_verdict is not None]
    statuses = [status for status in known if status is not Status.AMBIGUOUS]
    if not statuses:
        return Status.NOT_RUN
    statuses += [status_of(link.verdict) for link in judged.links if link.expected == EAGER]
    statuses += [Status.FAIL for output in judged.outputs if _broken(output)]
    checks = [(status_of(check.verdict), check.required) for check in judged.checks]
    return decide([*((status, True) for status in statuses), *checks]).status


def _broken(output: OutputRecord) -> bool:
    """Whether an output is what no decision that turns makes of it.

    It is missing (onnxruntime stopped), of another shape or kind, or holds NaN or infinities where
    PyTorch has none.
    """
    measured = Measurement.from_json(output.measurement)
    return bool(measured.problem or measured.nan_mismatch or measured.inf_mismatch_actual)


def moved_cases(cases: Sequence[Case], count: int) -> list[Case]:
    """Cases beside those of the choice: their floats moved at random.

    None where the inputs are integers alone: the same case again confirms nothing.
    """
    first, cases_moved = cases[0], list[Case]()
    for number in range(max(0, count)):
        seed = 1000 + number
        inputs = perturbed(first.inputs, seed)
        if all(np.array_equal(inputs[name], array) for name, array in first.inputs.items()):
            continue
        origin = f"{first.origin}, moved at random (seed {seed})"
        cases_moved.append(
            Case(name=f"{first.name}, moved {number + 1}", inputs=inputs, origin=origin)
        )
    return cases_moved
