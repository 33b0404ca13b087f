"""A model that is called step by step, left to itself: its own state goes into its next call.

The chain hands every call PyTorch's state, so that each is judged by itself. A user's program
hands on what the file gave, and errors may add up; here the file does so for all calls of a case,
against float32 and float64 PyTorch doing the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from exporter.cases.steps import step_name
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.judge.links import Link
from exporter.judge.outputs import OutputPlace, OutputResult, judge_outputs
from exporter.parity.rollup import Rollup, rollup
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy


@dataclass(slots=True, kw_only=True)
class OwnState:
    """One case in several calls.

    Attributes:
        case: its first call; the later ones are in ``case.later``.
        states: output -> input of the next call.
        reference, truth: outputs of every call, PyTorch in float32 and in float64.
        files: the same of a file, by deployment. stopped: why there are fewer.
    """

    case: Case
    states: Mapping[str, str]
    reference: list[Arrays] = field(default_factory=list)
    truth: list[Arrays] = field(default_factory=list)
    files: dict[str, list[Arrays]] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)

    def run_reference(self, run: Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]) -> None:
        """Fill ``reference`` and ``truth``.

        Args:
            run: inputs, and float64 values of those that carry state -> outputs of PyTorch in
                float32 and in float64.
        """
        state: Arrays = {}
        wide: Arrays = {}
        for inputs in (self.case.inputs, *self.case.later):
            plain, truth = run({**inputs, **state}, wide)
            state, wide = handed_on(plain, self.states), handed_on(truth, self.states)
            self.reference.append(plain)
            self.truth.append(truth)

    def run_file(self, label: str, run: Callable[[Arrays], Arrays]) -> None:
        """Fill ``files[label]``."""
        states = self.files.setdefault(label, [])
        state: Arrays = {}
        try:
            for inputs in (self.case.inputs, *self.case.later):
                outputs = run({**inputs, **state})
                state = handed_on(outputs, self.states)
                states.append(outputs)
        except OnnxStoppedError as error:
            self.stopped[label] = f"onnxruntime stopped in call {len(states) + 1}: {error}"


def handed_on(outputs: Arrays, states: Mapping[str, str]) -> Arrays:
    """Outputs of a call as inputs of the next."""
    return {into: outputs[name] for name, into in states.items() if name in outputs}


def step_case(case: Case, number: int, outputs: Arrays, states: Mapping[str, str]) -> Case:
    """Call ``number`` (from 1) of a case, on the state that the call before gave."""
    return replace(
        case,
        name=step_name(case, number),
        inputs={**case.later[number - 1], **handed_on(outputs, states)},
        origin=f"{case.origin}; call {number + 1}, PyTorch's state",
        expect_empty=frozenset(),
        later=(),
        call=number,
    )


def judge_own_state(
    states: list[OwnState],
    link: Link,
    specs: tuple[TensorSpec, ...],
    policy: Policy,
    places: Mapping[str, OutputPlace],
) -> tuple[list[OutputResult], Rollup]:
    """Judge every output of every call of a file that ran on its own state."""
    label = link.actual
    results: list[OutputResult] = []
    for own in states:
        for number, actual in enumerate(own.files[label]):
            name = step_name(own.case, number) if number else own.case.name
            plain = own.reference[number]
            empty = frozenset(key for key, value in plain.items() if not value.size)
            results += judge_outputs(
                link.name,
                replace(own.case, name=name, expect_empty=empty),
                specs,
                truth=own.truth[number],
                reference=plain,
                expected=plain,
                actual=actual,
                policy=policy,
                places=places,
            )
    stopped = next((own.stopped[label] for own in states if label in own.stopped), None)
    if stopped is not None:
        return results, Rollup(name=link.name, status=Status.FAIL, reason=stopped)
    return results, rollup(link.name, [result.verdict for result in results])
