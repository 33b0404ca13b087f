"""The layer-by-layer link: every tap of the captured program against one ONNX file.

Each tap gets two numbers on every case. The local one is the error that the layer makes by
itself (ONNX fed float32 PyTorch's values, judged against float64 on the same values); the
propagated one is what arrives there in a free run (judged against a free float64 run). A layer
is a culprit when its local error fails; a propagated failure behind it is a consequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from exporter.core.tensors import Case
from exporter.execution.lockstep import Clock, Lockstep, TapValues
from exporter.execution.onnxruntime import Deployment
from exporter.graph.exposed import expose_quantised
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.taps import COMPARED, NO_JOINS, Joins, plan_taps
from exporter.interpret.format_cost import Costs
from exporter.interpret.margins import Margin
from exporter.judge.culprits import (
    Culprit,
    Judged,
    TapResult,
    WorstOf,
    find_culprits,
    find_findings,
)
from exporter.judge.graph_or_kernel import excuse_behind_kernels, graph_or_kernel
from exporter.judge.lowered import LoweredTaps
from exporter.judge.masked_nan import excuse_masked_nan
from exporter.judge.second_opinion import SecondOpinion, is_doubtful
from exporter.judge.tap_measure import (
    is_rearranged,
    measure_local,
    measure_tap,
    rearranged_free,
)
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, Who
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import Verdict, judge, judge_discrete

__all__ = ["Culprit", "Judged", "LayerLink", "TapResult", "find_culprits", "judge_layers"]

_WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLink:
    """All taps of a link, the culprits, the worst first, and where the time went.

    ``findings`` are layers in which a kernel loses digits and nothing fails. ``decisions`` has, by
    case, the first ambiguous decision in words; None where there is none or something fails.
    """

    taps: tuple[TapResult, ...]
    culprits: tuple[Culprit, ...]
    clock: Clock
    findings: tuple[Culprit, ...] = ()
    decisions: Mapping[str, str | None] = field(default_factory=dict)


def judge_layers(
    program: Program,
    graph: GraphIndex,
    cases: Iterable[Case],
    *,
    policy: Policy,
    deployment: Deployment,
    budget: int,
    expected_taps: frozenset[str] = frozenset(),
    known_taps: frozenset[str] | None = None,
    joins: Joins = NO_JOINS,
    progress: Callable[[str], None] = lambda text: None,
) -> LayerLink:
    """Walk every case and judge every tap.

    Args:
        program, graph: the reference and the file under test.
        budget: bytes that the taps of one window may hold.
        expected_taps: taps that the pipeline's own file holds; one that ``graph`` has lost is
            named when the piece behind it fails.
        known_taps, joins: as for ``plan_taps``.
        progress: told the name of each case as it begins.
    """
    graph = expose_quantised(graph)
    planned = plan_taps(program, graph, known_taps, joins)
    lockstep = Lockstep(program, graph, planned, deployment=deployment, budget=budget)
    lowered = LoweredTaps(program, lockstep.held, planned, policy)
    found: dict[str, WorstOf] = {tap.tap.name: WorstOf() for tap in planned}
    decisions: dict[str, str | None] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        for case in cases:
            progress(case.name)
            here: dict[str, WorstOf] = {tap.tap.name: WorstOf() for tap in planned}
            _judge_case(lockstep, lowered, case, policy, pool, budget, here)
            excuse_masked_nan(planned, policy, here)
            graph_or_kernel(lockstep, case.inputs, policy, deployment.provider, here)
            excuse_behind_kernels(program, planned, here)
            _second_opinion(program, case, policy, here)
            decisions[case.name] = _ambiguous(here)
            for name, results in here.items():
                if results.local is not None and results.propagated is not None:
                    found[name].add(results.local, results.propagated)
    taps = tuple(
        TapResult(
            planned=tap,
            local=found[tap.tap.name].local if tap.fate == COMPARED else None,
            propagated=found[tap.tap.name].propagated if tap.fate == COMPARED else None,
        )
        for tap in planned
    )
    culprits = find_culprits(taps, program, expected_taps)
    findings = find_findings(taps, program)
    return LayerLink(
        taps=taps,
        culprits=culprits,
        clock=lockstep.clock,
        findings=findings,
        decisions=decisions,
    )


def _ambiguous(found: Mapping[str, WorstOf]) -> str | None:
    """Why outputs of a case may differ: a decision whose margin is below the noise."""
    judged = [j for held in found.values() for j in (held.propagated, held.local) if j is not None]
    if any(j.verdict.status is Status.FAIL for j in judged):
        return None
    # A limit that shows nothing is no decision that could have gone either way.
    unsure = (j for j in judged if j.verdict.status is Status.AMBIGUOUS and not j.verdict.weak)
    return next((j.verdict.reason for j in unsure), None)


def _second_opinion(
    program: Program,
    case: Case,
    policy: Policy,
    found: dict[str, WorstOf],
) -> None:
    """Judge propagated failures again, with float32's cost taken from several draws.

    Only where no layer of the case fails by itself: a free run may then still be far off at an
    element that amplifies rounding, where PyTorch's single draw happened to be good.
    """
    if any(w.local and w.local.verdict.status is Status.FAIL for w in found.values()):
        return
    doubtful = {
        name: w.propagated
        for name, w in found.items()
        if w.propagated is not None and is_doubtful(w.propagated.verdict)
    }
    if not doubtful:
        return
    opinion = SecondOpinion(program, case.inputs, policy, doubtful)
    for name, judged in doubtful.items():
        measured, verdict = opinion.on(name, judged.measurement, judged.verdict)
        found[name].propagated = replace(judged, measurement=measured, verdict=verdict)


@dataclass(slots=True)
class _CaseState:
    """Names behind a decision that float32 alone could take either way."""

    case: Case
    policy: Policy
    lowered: LoweredTaps
    costs: Costs
    tainted: set[str] = field(default_factory=set)
    taint_reason: str = ""


def _judge_case(
    lockstep: Lockstep,
    lowered: LoweredTaps,
    case: Case,
    policy: Policy,
    pool: ThreadPoolExecutor,
    budget: int,
    found: dict[str, WorstOf],
) -> None:
    costs = lowered.costs(case.inputs)
    state = _CaseState(case=case, policy=policy, lowered=lowered, costs=costs)
    pending: list[TapValues] = []
    held = 0
    started = time.perf_counter()
    for values in lockstep.walk(case.inputs):
        name = values.planned.tap.name
        if any(source in state.tainted for source in lockstep.sources(name)):
            state.tainted.add(name)
        if values.planned.fate != COMPARED:
            continue
        here = values.reference.dtype.kind in "biu" or name in state.tainted
        if here or values.truth_free is None or values.truth_local is None:
            found[name].add(*_judge_tap(values, state))
            continue
        pending.append(values)
        held += values.truth_free.nbytes + values.truth_local.nbytes + 3 * values.reference.nbytes
        # A value waiting to be measured is memory that the budget does not see.
        if held > budget // 2:
            _measure_all(pending, state, pool, found, lockstep.clock)
            held = 0
    _measure_all(pending, state, pool, found, lockstep.clock)
    lockstep.clock.add("wall", time.perf_counter() - started)


def _measure_all(
    pending: list[TapValues],
    state: _CaseState,
    pool: ThreadPoolExecutor,
    found: dict[str, WorstOf],
    clock: Clock,
) -> None:
    """Measure what waits, on all cores at once, and forget it.

    Not beside the walk: torch and onnxruntime use every core themselves, and a thread of theirs
    that has to wait for one of ours keeps the others spinning.
    """
    started = time.perf_counter()
    results = pool.map(lambda values: _judge_apart(values, state), pending)
    for values, (local, free) in zip(pending, results, strict=True):
        if free is None:
            free = _judge_rearranged(values, state, found)
        found[values.planned.tap.name].add(local, free)
    pending.clear()
    clock.add("metrics", time.perf_counter() - started)


def _judge_apart(values: TapValues, state: _CaseState) -> tuple[Judged, Judged | None]:
    """Judge a tap; the propagated error of a rearranged one is left to its source's."""
    if not is_rearranged(values):
        return _judge_tap(values, state)
    local = state.lowered.local(measure_local(values), state.costs)
    return _judged(local, _judge(local, values, state), state), None


def _judge_rearranged(values: TapValues, state: _CaseState, found: dict[str, WorstOf]) -> Judged:
    source = None
    if values.rearranged is not None:
        source = found[values.rearranged.source].propagated
    if source is None or source.measurement.kind != "float" or source.measurement.problem:
        return _judge_tap(values, state)[1]
    free = state.lowered.free(rearranged_free(values, source.measurement), state.costs)
    return _judged(free, _judge(free, values, state), state)


def _judge_tap(values: TapValues, state: _CaseState) -> tuple[Judged, Judged]:
    local, free = measure_tap(values)
    local = state.lowered.local(local, state.costs)
    free = state.lowered.free(free, state.costs)
    local_verdict, free_verdict = (_judge(m, values, state) for m in (local, free))
    behind = state.taint_reason if values.planned.tap.name in state.tainted else None
    if local_verdict.status is Status.FAIL and local.kind == "discrete":
        local_verdict = _within_margin(
            local, local_verdict, values, values.margin_local, values.forced, state
        )
    if free_verdict.status is Status.FAIL and local_verdict.status is not Status.FAIL:
        free_verdict = _reconsider(free, free_verdict, values, state, behind)
    return _judged(local, local_verdict, state), _judged(free, free_verdict, state)


def _judge(measured: Measurement, values: TapValues, state: _CaseState) -> Verdict:
    tap, case = values.planned, state.case
    empty = tap.onnx_name in case.expect_empty if tap.output else bool(case.expect_empty)
    return judge(measured, state.policy, empty_declared=empty, layer=tap.tap.module)


def _judged(measured: Measurement, verdict: Verdict, state: _CaseState) -> Judged:
    return Judged(measurement=measured, verdict=verdict, case=state.case.name)


def _reconsider(
    measured: Measurement,
    verdict: Verdict,
    values: TapValues,
    state: _CaseState,
    behind: str | None,
) -> Verdict:
    """A free run may differ because a decision was within rounding, here or further up."""
    decided = _within_margin(measured, verdict, values, values.margin, values.free, state)
    if decided.status is Status.AMBIGUOUS or behind is None:
        return decided
    return replace(
        verdict,
        status=Status.AMBIGUOUS,
        who=Who.BOTH_WITHIN_ROUNDING,
        reason=f"behind an ambiguous decision ({behind}); {verdict.reason}",
    )


def _within_margin(
    measured: Measurement,
    verdict: Verdict,
    values: TapValues,
    margin: Callable[..., Margin] | None,
    actual: np.ndarray | None,
    state: _CaseState,
) -> Verdict:
    """Ambiguous where every decision that differs was within rounding, or between equal values."""
    if measured.kind != "discrete" or margin is None or actual is None:
        return verdict
    if measured.shape_expected != measured.shape_actual or measured.problem is not None:
        return verdict
    name = values.planned.tap.name
    found = margin(actual)
    gaps = np.broadcast_to(found.distance, actual.shape)[values.reference != actual]
    noise = found.noise * state.policy.factor
    decided = judge_discrete(measured, gaps, noise, ties=found.ties)
    if decided.status is Status.AMBIGUOUS:
        state.tainted.add(name)
        state.taint_reason = f"'{name}' in {values.planned.tap.module or 'the root module'}"
    return decided
