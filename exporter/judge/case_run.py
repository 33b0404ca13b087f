"""One case at every station of a chain: what PyTorch gives, and room for what files give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from exporter.core.tensors import Arrays, Case
from exporter.execution.memory import trim
from exporter.graph.guards import Guard
from exporter.graph.program import Program
from exporter.interpret.eager import EagerRun, on_case
from exporter.interpret.repeats import Repeats, moved_by_seed
from exporter.interpret.truth import Yardstick, find_truth, program_yardstick
from exporter.judge.length_proofs import LengthProof
from exporter.judge.links import CAPTURED, EAGER
from exporter.judge.own_state import OwnState, step_case
from exporter.judge.subject import Subject


@dataclass(slots=True, kw_only=True)
class CaseRun:
    """Outputs of one case at every station, and what they are judged by.

    Attributes:
        case: what was run.
        capture: judges the captured program against the module. behind: judges what follows.
        stations: outputs by station.
        eager: what else there is to say of the module's run; None without a module.
        doubt: why ``behind`` does not come from the module; "".
        stopped: why the captured program gave nothing; "".
        broken: guards of the capture that do not hold of this case.
        moving: outputs that follow the seed of random numbers, and by how much.
        unwritten: an output that hangs on memory nobody wrote; "".
        state: why the module is no function of its inputs; "".
        proved: the links in front of the shipped file are proved on it, and were not run.
    """

    case: Case
    capture: Yardstick
    behind: Yardstick
    stations: dict[str, Arrays] = field(default_factory=dict)
    eager: EagerRun | None = None
    doubt: str = ""
    stopped: str = ""
    broken: tuple[Guard, ...] = ()
    moving: Mapping[str, float] = field(default_factory=dict)
    unwritten: str = ""
    state: str = ""
    proved: bool = False

    @property
    def reference(self) -> Arrays:
        """What PyTorch gave."""
        return self.stations.get(EAGER, self.stations[CAPTURED])

    @property
    def written(self) -> tuple[str, ...]:
        """Inputs that the module wrote to."""
        return self.eager.written if self.eager is not None else ()

    def judge_behind_by(self, program: Program) -> None:
        """Judge what follows by the program itself: it is not the module."""
        self.behind = program_yardstick(program, self.case.inputs)

    @property
    def second_call(self) -> bool:
        """True for the first call of a case that runs on what a call before gave."""
        return self.case.call == 1


def run_cases(
    subject: Subject, cases: Sequence[Case], proof: LengthProof | None, stage: Any
) -> tuple[list[CaseRun], list[OwnState]]:
    """Run PyTorch on every case, call by call if it has several, each on PyTorch's state.

    Returns:
        the runs, and what a model that is left to its own state is held against.

    Raises:
        ModuleStoppedError: the module raised on a case.
    """
    runs: list[CaseRun] = []
    own: list[OwnState] = []
    kept = proof.values if proof is not None else {}
    module, specs = subject.module, (subject.inputs, subject.outputs)
    first = None
    if module is not None and cases:
        with on_case(cases[0]):
            first = Repeats(module, specs, cases[0].inputs)
    for number, case in enumerate(cases):
        if case.name in kept:
            runs.append(proved_run(case, *kept[case.name]))
            continue
        stage.update(case.name, number, len(cases))
        proved = proof is not None and case.name in proof.cases
        with on_case(case):
            runs += [replace(run, proved=proved) for run in _calls(subject, case, proved)]
            if case.later:
                own.append(OwnState(case=case, states=subject.states))
                own[-1].run_reference(partial(_reference, subject))
        trim()
    if first is not None and runs[0].eager is not None:
        own_state = first.finish(runs[0].eager.outputs, others_ran=len(runs) > 1)
        runs[0] = replace(
            runs[0], state=own_state.state, moving={**runs[0].moving, **own_state.moving}
        )
    steps = len(runs) - len(cases)
    calls = f", {steps} steps" if steps else ""
    said = f"; {len(kept)} lengths from the proof" if proof is not None else ""
    done = len(cases) - len(kept)
    stage.result(f"{done} cases and lengths{calls}, float32 and float64{said}")
    return runs, own


def _calls(subject: Subject, case: Case, proved: bool) -> list[CaseRun]:
    """The calls of one case; of a proved one the module is not run again."""
    module = None if proved else subject.module
    runs = [run_once(module, subject, case)]
    for number in range(1, len(case.later) + 1):
        step = step_case(case, number, runs[-1].reference, subject.states)
        runs.append(run_once(module, subject, step))
    return runs


def _reference(subject: Subject, inputs: Arrays, wide: Arrays) -> tuple[Arrays, Arrays]:
    """What PyTorch gives on some inputs, in float32 and in float64."""
    specs = subject.inputs, subject.outputs
    truth = find_truth(subject.module, subject.program, specs, inputs, wide)
    plain = truth.captured if truth.eager is None else truth.eager.outputs
    return plain, truth.behind.truth


def proved_run(case: Case, captured: Arrays, truth: Arrays) -> CaseRun:
    """A case whose links in front of the shipped file are proved, with what PyTorch gave then."""
    yardstick = Yardstick(truth=truth, reference=captured)
    return CaseRun(
        case=_declare_empty(case, captured),
        capture=yardstick,
        behind=yardstick,
        stations={CAPTURED: captured},
        proved=True,
    )


def tokens_of(runs: Sequence[CaseRun], station: str) -> dict[str, list[list[int]]]:
    """Token ids of every row that a station gave, by case; empty where the graph gives none."""
    tokens = {}
    for run in runs:
        outputs = run.stations[station]
        if "token_ids" in outputs and "token_lengths" in outputs:
            pairs = zip(outputs["token_ids"], outputs["token_lengths"], strict=True)
            tokens[run.case.name] = [ids[: int(n)].tolist() for ids, n in pairs]
    return tokens


def run_once(
    module: nn.Module | None, subject: Subject, case: Case, *, empty_declared: bool = False
) -> CaseRun:
    """Run one case, one call.

    Args:
        empty_declared: what the module leaves empty is meant to be.
    """
    program = subject.program
    truth = find_truth(module, program, (subject.inputs, subject.outputs), case.inputs)
    run = CaseRun(
        case=case,
        capture=truth.capture,
        behind=truth.behind,
        stations={CAPTURED: truth.captured},
        eager=truth.eager,
        doubt=truth.doubt,
        stopped=truth.stopped,
        unwritten=truth.unwritten,
        broken=broken_guards(program, case.inputs),
    )
    if truth.eager is not None:
        run.stations[EAGER] = truth.eager.outputs
        if module is not None and truth.eager.draws:
            specs = subject.inputs, subject.outputs
            run.moving = moved_by_seed(module, specs, case.inputs, truth.eager.outputs)
    run.case = _declare_empty(case, run.reference, empty_declared)
    return run


def broken_guards(program: Program, inputs: Arrays) -> tuple[Guard, ...]:
    """What a capture rests on and these inputs break."""
    shapes = {name: np.shape(value) for name, value in inputs.items()}
    return tuple(guard for guard in program.guards if not guard.holds(shapes))


def _declare_empty(case: Case, eager: Arrays, declared: bool = False) -> Case:
    """At a length of the sweep there may be no speech: what eager leaves empty is declared so.

    Both sides must then be empty, which is counted apart from a pass. A step of a stream is alike.
    """
    if not (declared or case.sized or case.call):
        return case
    empty = frozenset(name for name, value in eager.items() if np.size(value) == 0)
    return replace(case, expect_empty=empty)
