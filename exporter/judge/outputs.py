"""The links whose two ends are whole runs: their outputs, on every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.core.stopwatch import METRICS, timed
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.graph.program import Program
from exporter.interpret.decisions import is_drawn
from exporter.interpret.float32_cost import float32_cost
from exporter.interpret.targets import resolve, shown_targets
from exporter.judge.lowered import HeldOutputs
from exporter.judge.tap_measure import with_cost
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy, natural_scale
from exporter.parity.verdict import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputResult:
    """One output of one link on one case."""

    link: str
    case: str
    name: str
    measurement: Measurement
    verdict: Verdict


def judge_outputs(
    link: str,
    case: Case,
    specs: tuple[TensorSpec, ...],
    *,
    truth: Arrays,
    reference: Arrays,
    expected: Arrays,
    actual: Arrays,
    policy: Policy,
    operators: Mapping[str, str] | None = None,
    held: HeldOutputs | None = None,
) -> list[OutputResult]:
    """Judge every output of one link.

    Args:
        truth: free float64 PyTorch. reference: float32 PyTorch, the yardstick of rounding.
        expected, actual: the two ends of the link. Floats of ``actual`` are judged against
            ``truth``; integers must equal ``expected``.
        operators: op behind each output, for its natural scale.
        held: what the file behind ``actual`` holds; None when nobody has looked.
    """
    results = []
    for spec in specs:
        name = spec.name
        discrete = spec.discrete
        with timed(METRICS):
            measured = measure(
                name,
                truth=truth.get(name),
                reference=expected.get(name) if discrete else reference.get(name),
                actual=actual.get(name),
                role="output",
                exhaustive=not discrete,
                natural_scale=natural_scale((operators or {}).get(name, "")),
            )
        if held is not None:
            measured = held.tell(measured)
        verdict = judge(measured, policy, empty_declared=name in case.expect_empty)
        results.append(
            OutputResult(
                link=link, case=case.name, name=name, measurement=measured, verdict=verdict
            )
        )
    return results


def operators_of(program: Program) -> dict[str, str]:
    """The op behind each output, by public name."""
    ops = shown_targets(program)
    pairs = zip(program.outputs, program.output_names, strict=True)
    return {label: ops.get(name, "") for name, label in pairs}


def second_opinion(
    program: Program, results: Sequence[OutputResult], cases: Sequence[Case], policy: Policy
) -> list[OutputResult]:
    """Judge floats that failed again, with float32's cost taken from several draws.

    At an output of few elements, or at one element that amplifies rounding, PyTorch's single draw
    may happen to be good. To be asked only where no layer is known to be wrong by itself.
    """
    if any(is_drawn(resolve(op.target), op.args) for op in program.ops):
        return list(results)  # draws of random numbers would be taken for draws of rounding
    names = dict(zip(program.output_names, program.outputs, strict=True))
    doubtful: dict[str, set[str]] = {}
    for result in results:
        if result.verdict.status is Status.FAIL and result.verdict.strain is not None:
            doubtful.setdefault(result.case, set()).add(result.name)
    costs = {
        case.name: float32_cost(program, case.inputs, [names[n] for n in doubtful[case.name]])
        for case in cases
        if case.name in doubtful
    }
    judged = []
    for result in results:
        cost = costs.get(result.case, {}).get(names.get(result.name, ""))
        if result.name in doubtful.get(result.case, ()) and cost is not None:
            again = with_cost(result.measurement, cost)
            result = replace(result, measurement=again, verdict=judge(again, policy))
        judged.append(result)
    return judged
