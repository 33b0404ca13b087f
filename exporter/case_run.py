"""One case at every station of a chain: what PyTorch gives, and room for what files give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import nn

from exporter.cases.steps import STEP
from exporter.execution.evaluate import run_with_truth
from exporter.graph.program import Program
from exporter.outputs import run_eager
from exporter.own_state import step_case
from exporter.tensors import Arrays, Case, TensorSpec

EAGER, CAPTURED = "eager", "captured"


@dataclass(slots=True, kw_only=True)
class CaseRun:
    """Outputs of one case at every station.

    Attributes:
        case: what was run. truth: free float64 PyTorch.
        stations: outputs by station. written: inputs that eager PyTorch wrote to.
        proved: the links in front of the shipped file are proved on it, and were not run.
    """

    case: Case
    truth: Arrays = field(default_factory=dict)
    stations: dict[str, Arrays] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    proved: bool = False

    @property
    def reference(self) -> Arrays:
        """What PyTorch gave."""
        return self.stations.get(EAGER, self.stations[CAPTURED])

    @property
    def second_call(self) -> bool:
        """True for the first call of a case that runs on what a call before gave."""
        return self.case.name.endswith(f"{STEP}1")


def run_pytorch(
    module: nn.Module | None,
    program: Program,
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    case: Case,
    states: Mapping[str, str],
) -> list[CaseRun]:
    """Run a case, call by call if it has several, each call on the state that PyTorch gave.

    Args:
        module: the eager module, if it is at hand. program: the captured one.
        specs: of inputs and outputs, in order.
        states: output -> the input that takes it in the next call.
    """
    runs = [_once(module, program, specs, case)]
    for number in range(1, len(case.later) + 1):
        step = step_case(case, number, runs[-1].reference, states)
        runs.append(_once(module, program, specs, step))
    return runs


def proved_run(case: Case, captured: Arrays, truth: Arrays) -> CaseRun:
    """A case whose links in front of the shipped file are proved, with what PyTorch gave then."""
    return CaseRun(
        case=_declare_empty(case, captured),
        truth=truth,
        stations={CAPTURED: captured},
        proved=True,
    )


def tokens_of(run: CaseRun, station: str) -> list[list[int]] | None:
    """Token ids of every row that a station gave; None where the graph gives none."""
    outputs = run.stations[station]
    if "token_ids" not in outputs or "token_lengths" not in outputs:
        return None
    pairs = zip(outputs["token_ids"], outputs["token_lengths"], strict=True)
    return [ids[: int(n)].tolist() for ids, n in pairs]


def _once(
    module: nn.Module | None,
    program: Program,
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    case: Case,
) -> CaseRun:
    captured, truth = run_with_truth(program, case.inputs)
    run = CaseRun(case=case, truth=truth, stations={CAPTURED: captured})
    if module is not None:
        eager, run.written = run_eager(module, tuple(specs[0]), tuple(specs[1]), case)
        run.stations[EAGER] = eager
    run.case = _declare_empty(case, run.reference)
    return run


def _declare_empty(case: Case, eager: Arrays) -> Case:
    """At a length of the sweep there may be no speech: what eager leaves empty is declared so.

    Both sides must then be empty, which is counted apart from a pass. A step of a stream is alike.
    """
    if not {"@", STEP} & set(case.name):
        return case
    empty = frozenset(name for name, value in eager.items() if np.size(value) == 0)
    return replace(case, expect_empty=empty)
