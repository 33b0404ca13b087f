"""The links whose two ends are whole runs: their outputs, on every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.core.stopwatch import METRICS, timed
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.graph.program import Program
from exporter.interpret.allowed_ops import resolve, shown_targets
from exporter.interpret.decisions import is_drawn
from exporter.judge.lowered import HeldOutputs
from exporter.judge.second_opinion import SecondOpinion, is_doubtful
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.tolerance import Policy, natural_scale
from exporter.parity.verdict import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputResult:
    """One output of one link on one case; ``layer`` is the module path of the op behind it."""

    link: str
    case: str
    name: str
    measurement: Measurement
    verdict: Verdict
    layer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlace:
    """Where an output comes from: module path, and the op whose results it shows."""

    layer: str = ""
    shown: str = ""


_NOWHERE = OutputPlace()


def output_places(program: Program) -> dict[str, OutputPlace]:
    """Where every output of a program comes from, by public name."""
    shown = shown_targets(program)
    layers = {op.name: op.module for op in program.ops}
    return {
        label: OutputPlace(layer=layers.get(name, ""), shown=shown.get(name, ""))
        for name, label in zip(program.outputs, program.output_names, strict=True)
    }


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
    places: Mapping[str, OutputPlace],
    held: HeldOutputs | None = None,
) -> list[OutputResult]:
    """Judge every output of one link.

    Args:
        truth: free float64 PyTorch. reference: float32 PyTorch, the yardstick of rounding.
        expected, actual: the two ends of the link. Floats of ``actual`` are judged against
            ``truth``; integers must equal ``expected``.
        places: where each output comes from, for its natural scale and for overrides.
        held: what the file behind ``actual`` holds; None when nobody has looked.
    """
    results = []
    for spec in specs:
        name, discrete = spec.name, spec.discrete
        place = places.get(name, _NOWHERE)
        with timed(METRICS):
            measured = measure(
                name,
                truth=truth.get(name),
                reference=expected.get(name) if discrete else reference.get(name),
                actual=actual.get(name),
                role="output",
                exhaustive=not discrete,
                natural_scale=natural_scale(place.shown),
            )
        if held is not None:
            measured = held.tell(measured)
        empty = name in case.expect_empty
        results.append(
            OutputResult(
                link=link,
                case=case.name,
                name=name,
                measurement=measured,
                verdict=judge(measured, policy, empty_declared=empty, layer=place.layer),
                layer=place.layer,
            )
        )
    return results


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
        if is_doubtful(result.verdict) and result.name in names:
            doubtful.setdefault(result.case, set()).add(names[result.name])
    opinions = {
        case.name: SecondOpinion(program, case.inputs, policy, doubtful[case.name])
        for case in cases
        if case.name in doubtful
    }
    judged = []
    for result in results:
        if result.case in opinions:
            measured, verdict = opinions[result.case].on(
                names[result.name], result.measurement, result.verdict
            )
            result = replace(result, measurement=measured, verdict=verdict)
        judged.append(result)
    return judged
