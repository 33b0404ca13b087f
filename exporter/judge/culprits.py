"""Which layers a walk finds guilty, and which of them is the worst."""

from __future__ import annotations

import math
from collections.abc import Iterator

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.graph.program import Program
from exporter.judge.layer_results import Culprit, JudgedTap, Judgement
from exporter.parity.nodes_in_float64 import Cause
from exporter.parity.status import Status

_ROUNDING = 24 * 2.0**-24
"""Relative error that the limit of an ordinary float32 op allows."""
_TINY = 2.0**-126


def find_culprits(
    taps: tuple[JudgedTap, ...],
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


def find_findings(taps: tuple[JudgedTap, ...], program: Program) -> tuple[Culprit, ...]:
    """Layers in which a kernel loses digits and nothing fails, the worst first."""
    return _per_layer(taps, Status.FINDING, program, frozenset())


def _per_layer(
    taps: tuple[JudgedTap, ...],
    status: Status,
    program: Program,
    expected_taps: frozenset[str],
) -> tuple[Culprit, ...]:
    by_name = {tap.planned.tap.name: tap for tap in taps}
    layers: dict[str, list[JudgedTap]] = {}
    for result in taps:
        if result.local is not None and result.local.verdict.status is status:
            layers.setdefault(result.planned.tap.module, []).append(result)
    found = []
    for results in layers.values():
        first, *others = sorted(results, key=_rank, reverse=True)
        lost = tuple(lost_inside(first, by_name, program, expected_taps))
        found.append(Culprit(tap=first, lost=lost, others=tuple(others)))
    return tuple(sorted(found, key=lambda culprit: _rank(culprit.tap), reverse=True))


def _rank(result: JudgedTap) -> tuple[bool, float]:
    """What the graph has wrong first, then by how many times a tap is over its limit by itself."""
    if result.local is None:
        return True, math.inf
    opinion = result.local.opinion
    return opinion is None or opinion.cause is not Cause.KERNEL, over_limit(result.local)


def over_limit(judged: Judgement) -> float:
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


def lost_inside(
    result: JudgedTap,
    by_name: dict[str, JudgedTap],
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
