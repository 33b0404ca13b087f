"""The layer-by-layer link: every tap of the captured program against one ONNX file.

Each tap gets two numbers on every case. The local one is the error that the layer makes by
itself (ONNX fed float32 PyTorch's values, judged against float64 on the same values); the
propagated one is what arrives there in a free run (judged against a free float64 run). A layer
is a culprit when its local error fails; a propagated failure behind it is a consequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from exporter.core.tensors import COMPARED, Case
from exporter.execution.deployment import Deployment
from exporter.execution.lockstep import Lockstep, TapValues
from exporter.graph.exposed import expose_quantised
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.taps import NO_JOINS, Joins, Names, plan_taps
from exporter.interpret.format_cost import Costs, held_costs
from exporter.interpret.margins import Margin
from exporter.judge.branch_cut import on_one_side
from exporter.judge.culprits import LostValues, find_culprits, find_findings
from exporter.judge.doubtful_names import settle_names
from exporter.judge.graph_or_kernel import excuse_behind_kernels, graph_or_kernel
from exporter.judge.layer_results import JudgedTap, Judgement, LayerLink, decision_in_doubt
from exporter.judge.masked_nan import excuse_masked_nan
from exporter.judge.second_opinion import SecondOpinion, is_doubtful
from exporter.judge.subject import Subject
from exporter.judge.tap_measure import TapMeasure, is_rearranged
from exporter.parity.coarse_formats import seen_through
from exporter.parity.measurement import Measurement
from exporter.parity.status import BEYOND_BY_ITSELF, Status, Who
from exporter.parity.tolerance import Policy, coarser
from exporter.parity.verdict import judge_discrete, judge_tap

_WORKERS = 2
_FLOATING = ("float", "bfloat")


def judge_subject(
    subject: Subject,
    graph: GraphIndex,
    cases: Sequence[Case],
    *,
    policy: Policy,
    deployment: Deployment,
    budget: int,
    progress: Callable[[str], None] = lambda text: None,
) -> LayerLink:
    """Judge all layers of a file; once or twice more where names may hold other values.

    Args:
        graph: the file. cases: on the first one names are asked what they hold.
        policy, deployment, budget, progress: as for ``judge_layers``.
    """
    judge_with = partial(
        judge_layers,
        subject.program,
        graph,
        cases,
        policy=policy,
        deployment=deployment,
        budget=budget,
        expected_taps=subject.expected_taps,
        known_taps=subject.known_taps,
        joins=subject.joins,
        progress=progress,
    )
    link = judge_with()
    if subject.names in (Names.OURS, Names.PROVED) or not link.in_question:
        return link
    return settle_names(
        subject, graph, cases[0], link, judge_with, deployment=deployment, budget=budget
    )


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
    measure = TapMeasure(program, lockstep.held, planned, policy)
    lost = LostValues(program, planned, expected_taps)
    worst: dict[str, JudgedTap] = {}
    decisions: dict[str, str | None] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        for case in cases:
            progress(case.name)
            costs = held_costs(program, case.inputs, measure.held_of_ops, planned)
            taps = _CaseWalk(lockstep, measure, costs, case, policy, budget, pool).judged()
            if any(tap.status is Status.FAIL for tap in taps.values()):
                taps = excuse_masked_nan(planned, policy, taps)
                taps = graph_or_kernel(lockstep, case.inputs, policy, deployment.provider, taps)
                taps = excuse_behind_kernels(program, taps)
                taps = _second_opinion(program, case, policy, taps)
            if joins.names:
                taps = _not_seen_through(lost, taps)
            decisions[case.name] = decision_in_doubt(taps.values())
            worst |= {n: worst[n].or_worse(tap) if n in worst else tap for n, tap in taps.items()}
    judged = tuple(worst.get(tap.tap.name, JudgedTap(planned=tap)) for tap in planned)
    link = LayerLink(taps=judged, clock=lockstep.clock, decisions=decisions)
    judgements = [j for tap in worst.values() for j in tap.both]
    if all(j.verdict.status not in BEYOND_BY_ITSELF for j in judgements):
        return link
    return replace(link, culprits=find_culprits(judged, lost), findings=find_findings(judged))


def _not_seen_through(lost: LostValues, taps: Mapping[str, JudgedTap]) -> dict[str, JudgedTap]:
    """Leave open what lies in front of a coarse limit and was joined with nothing in the file.

    Values that are joined by what they compute are lost where they compute something else.
    """
    judged = dict(taps)
    for name, tap in taps.items():
        local = tap.local
        if local is None or not local.measurement.held:
            continue
        moved = lost.shown_by(name)
        gone = [
            names_behind.tap.name
            for names_behind in lost.in_front_of(name)
            if names_behind.dtype.startswith(_FLOATING) and names_behind.tap.name not in moved
        ]
        verdict = seen_through(local.measurement, gone, local.verdict)
        judged[name] = replace(tap, local=replace(local, verdict=verdict))
    return judged


def _second_opinion(
    program: Program, case: Case, policy: Policy, taps: Mapping[str, JudgedTap]
) -> dict[str, JudgedTap]:
    """Judge propagated failures again, with float32's cost taken from several draws.

    A free run may be far off at an element that amplifies rounding, where PyTorch's single draw
    happened to be good. Not of values behind a layer that fails by itself: those are wrong.
    """
    free = {name: tap.propagated for name, tap in taps.items() if tap.propagated is not None}
    wrong = _fed_by(program, {name for name, tap in taps.items() if tap.fails_by_itself})
    doubtful = {n: j for n, j in free.items() if n not in wrong and is_doubtful(j.verdict)}
    if not doubtful:
        return dict(taps)
    opinion = SecondOpinion(program, case.inputs, policy, doubtful)
    again = {name: opinion.on(name, j.measurement, j.verdict) for name, j in doubtful.items()}
    return {**taps} | {
        name: replace(
            taps[name],
            propagated=replace(doubtful[name], measurement=measured, verdict=verdict),
        )
        for name, (measured, verdict) in again.items()
    }


def _fed_by(program: Program, names: set[str]) -> set[str]:
    """These values, and all that read them at any distance."""
    names_fed = set(names)
    for op in program.ops if names else ():
        if not names_fed.isdisjoint(op.refs()):
            names_fed.add(op.name)
    return names_fed


class _CaseWalk:
    """One case through every tap: values come in the order of the program, verdicts go out."""

    def __init__(
        self,
        lockstep: Lockstep,
        measure: TapMeasure,
        costs: Costs,
        case: Case,
        policy: Policy,
        budget: int,
        pool: ThreadPoolExecutor,
    ):
        self._lockstep = lockstep
        self._measure = measure
        self._case = case
        self._policy = policy
        self._budget = budget
        self._pool = pool
        self._costs = costs
        self._taps: dict[str, JudgedTap] = {}
        # Names behind a decision that float32 alone could take either way.
        self._tainted: set[str] = set()
        self._taint_reason = ""

    def judged(self) -> dict[str, JudgedTap]:
        """Every tap that the file holds, by name, in the order of the program."""
        started = time.perf_counter()
        pending: list[TapValues] = []
        waiting = 0
        for values in self._lockstep.walk(self._case.inputs):
            name = values.planned.tap.name
            if any(source in self._tainted for source in self._lockstep.sources(name)):
                self._tainted.add(name)
            if values.planned.fate != COMPARED:
                continue
            # Room in the order of the program: what waits is judged later than what does not.
            self._taps[name] = JudgedTap(planned=values.planned)
            decides = values.margin is not None or values.reference.dtype.kind in "biu"
            at_once = decides or name in self._tainted
            if at_once or values.truth_free is None or values.truth_local is None:
                self._keep(values, *self._judge_tap(values))
                continue
            pending.append(values)
            waiting += values.truth_free.nbytes + values.truth_local.nbytes
            waiting += 3 * values.reference.nbytes
            # A value waiting to be measured is memory that the budget does not see.
            if waiting > self._budget // 2:
                self._judge_all(pending)
                waiting = 0
        self._judge_all(pending)
        self._lockstep.clock.add("wall", time.perf_counter() - started)
        return self._taps

    def _keep(self, values: TapValues, local: Judgement, free: Judgement) -> None:
        planned = values.planned
        self._taps[planned.tap.name] = JudgedTap(planned=planned, local=local, propagated=free)

    def _judge_all(self, pending: list[TapValues]) -> None:
        """Measure what waits, on all cores at once, and forget it.

        Not beside the walk: torch and onnxruntime use every core themselves, and a thread of
        theirs that has to wait for one of ours keeps the others spinning.
        """
        started = time.perf_counter()
        for values, (local, free) in zip(
            pending, self._pool.map(self._judge_apart, pending), strict=True
        ):
            self._keep(values, local, self._judge_rearranged(values) if free is None else free)
        pending.clear()
        self._lockstep.clock.add("metrics", time.perf_counter() - started)

    def _judge_apart(self, values: TapValues) -> tuple[Judgement, Judgement | None]:
        """Judge a tap; the propagated error of a rearranged one is left to its source's."""
        if not is_rearranged(values):
            return self._judge_tap(values)
        return self._judge(values, self._measure.local(values, self._costs)), None

    def _judge_rearranged(self, values: TapValues) -> Judgement:
        source = self._taps[values.rearranged.source].propagated if values.rearranged else None
        if source is None or source.measurement.kind != "float" or source.measurement.problem:
            return self._judge_tap(values)[1]
        free = self._measure.rearranged(values, source.measurement, self._costs)
        return self._judge(values, free)

    def _judge(self, values: TapValues, measured: Measurement) -> Judgement:
        verdict = judge_tap(measured, values.planned, self._case, self._policy)
        return Judgement(measurement=measured, verdict=verdict, case=self._case.name)

    def _judge_tap(self, values: TapValues) -> tuple[Judgement, Judgement]:
        # What takes a decision and is a number all the same: an angle.
        if values.margin is not None and values.reference.dtype.kind == "f":
            local, free = (self._judge_angle(values, free=free) for free in (False, True))
        else:
            local, free = (self._judge(values, m) for m in self._measure.both(values, self._costs))
        name = values.planned.tap.name
        behind = self._taint_reason if name in self._tainted else None
        if local.fails:
            local = self._within_margin(
                values, local, values.margin_local, values.forced, free=False
            )
        if free.fails and not local.fails:
            # A free run may differ because a decision was within rounding, here or further up.
            free = self._within_margin(values, free, values.margin, values.free, free=True)
            if free.verdict.status is not Status.AMBIGUOUS and behind is not None:
                verdict = replace(
                    free.verdict,
                    status=Status.AMBIGUOUS,
                    who=Who.BOTH_WITHIN_ROUNDING,
                    reason=f"behind an ambiguous decision ({behind}); {free.verdict.reason}",
                )
                free = replace(free, verdict=verdict)
        return local, free

    def _within_margin(
        self,
        values: TapValues,
        judged: Judgement,
        margin: Callable[..., Margin] | None,
        actual: np.ndarray | None,
        *,
        free: bool,
    ) -> Judgement:
        """Ambiguous where every decision that differs was within rounding, or of equal values.

        In a file that was lowered as declared, within what its formats cost in front: int8 that
        turns a decision is no layer's fault.
        """
        measured = judged.measurement
        if measured.kind != "discrete" or margin is None or actual is None:
            return judged
        if measured.shape_expected != measured.shape_actual or measured.problem is not None:
            return judged
        margins = margin(actual)
        gaps = np.broadcast_to(margins.distance, actual.shape)[values.reference != actual]
        noise = margins.noise * self._policy.factor
        verdict = judge_discrete(measured, gaps, noise, ties=margins.ties)
        formats, cost = self._measure.decided_on(
            values.planned, margins.sources, self._costs, free=free
        )
        if verdict.status is Status.FAIL and cost and not coarser(formats, self._policy):
            of = f"what {' and '.join(formats)} costs in front of it"
            noise = self._policy.factor * max(margins.noise, 0.5 * cost)
            verdict = judge_discrete(measured, gaps, noise, ties=margins.ties, of=of)
        return self._settled(values, replace(judged, verdict=verdict))

    def _judge_angle(self, values: TapValues, *, free: bool) -> Judgement:
        """Ambiguous where the only thing that differs is the side of the branch cut."""
        beside, crossed = on_one_side(values, self._policy.factor, free=free)
        judged = self._judge(beside, self._measure.both(beside, self._costs)[1 if free else 0])
        if not crossed or judged.verdict.status is not Status.PASS:
            return judged
        reason = (
            f"{crossed} of {values.reference.size} angles lie on the other side of the branch cut,"
            f" where y is rounding noise and pi and -pi are the same; {judged.verdict.reason}"
        )
        verdict = replace(
            judged.verdict, status=Status.AMBIGUOUS, who=Who.BOTH_WITHIN_ROUNDING, reason=reason
        )
        return self._settled(values, replace(judged, verdict=verdict))

    def _settled(self, values: TapValues, judged: Judgement) -> Judgement:
        """Remember a decision in doubt for what comes behind it."""
        if judged.verdict.status is Status.AMBIGUOUS:
            tap = values.planned.tap
            self._tainted.add(tap.name)
            self._taint_reason = f"'{tap.name}' in {tap.module or 'the root module'}"
        return judged
