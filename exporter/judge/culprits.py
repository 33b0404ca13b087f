"""Which layers a walk finds guilty, and which of them is the worst."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from exporter.graph.program import Program
from exporter.graph.taps import COMPARED, PlannedTap
from exporter.parity.cause import Cause, Opinion
from exporter.parity.compare import worse
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, severity, worst
from exporter.parity.verdict import Verdict

_ROUNDING = 24 * 2.0**-24
"""Relative error that the limit of an ordinary float32 op allows."""
_TINY = 2.0**-126


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One measurement with its verdict and the case it comes from.

    ``opinion``, of a layer that fails by itself: whether graph or kernel is to blame.
    """

    measurement: Measurement
    verdict: Verdict
    case: str
    opinion: Opinion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TapResult:
    """A tap and its worst figures over all cases; None where it was not compared."""

    planned: PlannedTap
    local: Judged | None
    propagated: Judged | None

    @property
    def status(self) -> Status:
        """The more serious of the two; a tap that was not compared was not run."""
        return worst(j.verdict.status for j in (self.local, self.propagated) if j is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """A layer that is wrong by itself (or, failing that, the first place where errors show).

    ``lost`` are taps of the piece that the file has lost; ``others`` fail in the same layer, and
    are less wrong.
    """

    tap: TapResult
    lost: tuple[PlannedTap, ...] = ()
    others: tuple[TapResult, ...] = ()

    @property
    def local(self) -> bool:
        """False when only the propagated error fails."""
        return _is(self.tap, Status.FAIL, Status.FINDING)

    @property
    def opinion(self) -> Opinion | None:
        """Whether graph or kernel is to blame; None where nobody asked."""
        return self.tap.local.opinion if self.tap.local is not None else None


def worse_judged(held: Judged | None, new: Judged) -> Judged:
    """The more serious of two judgements on one tap, else the one with the larger figures."""
    if held is None:
        return new
    ranks = severity(held.verdict.status), severity(new.verdict.status)
    if ranks[0] != ranks[1]:
        return held if ranks[0] > ranks[1] else new
    return held if worse(held.measurement, new.measurement) is held.measurement else new


@dataclass(slots=True)
class WorstOf:
    """The worst judgements on one tap over the cases so far."""

    local: Judged | None = None
    propagated: Judged | None = None

    def add(self, local: Judged, propagated: Judged) -> None:
        """Take in the judgements of one more case."""
        self.local = worse_judged(self.local, local)
        self.propagated = worse_judged(self.propagated, propagated)


def find_culprits(
    taps: tuple[TapResult, ...],
    program: Program,
    expected_taps: frozenset[str] = frozenset(),
) -> tuple[Culprit, ...]:
    """One culprit per layer, the worst first; those of the graph in front of a kernel's.

    A layer is guilty when one of its taps fails locally; its worst tap stands for it, the others
    are named beside it. If no layer does and something still fails in the free run, the first
    such tap is named: errors that are small in every layer add up, or the tool has missed the
    layer; either way nobody may call it a pass.
    """
    guilty = _per_layer(taps, Status.FAIL, program, expected_taps)
    if guilty:
        return guilty
    for result in taps:
        if result.status is Status.FAIL:
            # Where a kernel loses digits, what fails further down needs no other explanation.
            return find_findings(taps, program) or (Culprit(tap=result),)
    return ()


def find_findings(taps: tuple[TapResult, ...], program: Program) -> tuple[Culprit, ...]:
    """Layers in which a kernel loses digits and nothing fails, the worst first."""
    return _per_layer(taps, Status.FINDING, program, frozenset())


def _per_layer(
    taps: tuple[TapResult, ...],
    status: Status,
    program: Program,
    expected_taps: frozenset[str],
) -> tuple[Culprit, ...]:
    by_name = {tap.planned.tap.name: tap for tap in taps}
    layers: dict[str, list[TapResult]] = {}
    for result in taps:
        if _is(result, status):
            layers.setdefault(result.planned.tap.module, []).append(result)
    found = []
    for results in layers.values():
        first, *others = sorted(results, key=_rank, reverse=True)
        lost = tuple(_lost_inside(first, by_name, program, expected_taps))
        found.append(Culprit(tap=first, lost=lost, others=tuple(others)))
    return tuple(sorted(found, key=lambda culprit: _rank(culprit.tap), reverse=True))


def _is(result: TapResult, *statuses: Status) -> bool:
    return result.local is not None and result.local.verdict.status in statuses


def _rank(result: TapResult) -> tuple[bool, float]:
    opinion = result.local.opinion if result.local is not None else None
    kernel = opinion is not None and opinion.cause is Cause.KERNEL
    return not kernel, _badness(result)


def _badness(result: TapResult) -> float:
    """How many times over its limit a tap is by itself; infinite where that is no number."""
    return math.inf if result.local is None else over_limit(result.local)


def over_limit(judged: Judged) -> float:
    """Error over limit; of a copy that changed bits, over what rounding would cost there.

    Infinite where nothing can be put into such a figure: another shape, NaN, integers.
    """
    if judged.verdict.strain is not None:
        return judged.verdict.strain
    found = judged.measurement.direct
    if judged.measurement.kind != "exact" or found is None or not found.max_abs:
        return math.inf
    scale = max(abs(found.worst_expected or 0.0), abs(found.worst_actual or 0.0), _TINY)
    return max(1.0, found.max_abs / (_ROUNDING * scale))


def _lost_inside(
    result: TapResult,
    by_name: dict[str, TapResult],
    program: Program,
    expected_taps: frozenset[str],
) -> Iterator[PlannedTap]:
    """Taps that the file should hold, between this tap and the compared taps before it."""
    ops = {op.name: op for op in program.ops}
    seen: set[str] = set()
    stack = list(ops[result.planned.tap.name].refs())
    while stack:
        name = stack.pop()
        found = by_name.get(name)
        if name in seen or name not in ops or (found and found.planned.fate == COMPARED):
            continue
        seen.add(name)
        if found and name in expected_taps:
            yield found.planned
        stack.extend(ops[name].refs())
