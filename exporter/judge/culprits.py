"""Which layers a walk finds guilty, and which of them is the worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.graph.program import Program
from exporter.interpret.allowed_ops import moves_elements
from exporter.judge.layer_results import Culprit, JudgedTap
from exporter.parity.nodes_in_float64 import Cause
from exporter.parity.over_limit import culprit_rank, over_limit
from exporter.parity.status import Status


def find_culprits(taps: tuple[JudgedTap, ...], lost: LostValues) -> tuple[Culprit, ...]:
    """One culprit per layer, the worst first; those of the graph in front of a kernel's.

    A layer is guilty when one of its taps fails locally; its worst tap stands for it, the others
    are named beside it. If no layer does and something still fails in the free run, the first
    such tap is named: errors that are small in every layer add up, or the tool has missed the
    layer; either way nobody may call it a pass.
    """
    guilty = _per_layer(taps, Status.FAIL, lost)
    if guilty:
        return guilty
    for result in taps:
        if result.status is Status.FAIL:
            # Where a kernel loses digits, what fails further down needs no other explanation.
            return find_findings(taps) or (Culprit(tap=result),)
    return ()


def find_findings(taps: tuple[JudgedTap, ...]) -> tuple[Culprit, ...]:
    """Layers in which a kernel loses digits and nothing fails, the worst first."""
    return _per_layer(taps, Status.FINDING, None)


def _per_layer(
    taps: tuple[JudgedTap, ...], status: Status, lost: LostValues | None
) -> tuple[Culprit, ...]:
    layers: dict[str, list[JudgedTap]] = {}
    for result in taps:
        if result.local is not None and result.local.verdict.status is status:
            layers.setdefault(result.planned.tap.module, []).append(result)
    culprits = []
    for results in layers.values():
        first, *others = sorted(results, key=_rank, reverse=True)
        gone = () if lost is None else lost.in_front_of(first.planned.tap.name)
        culprits.append(Culprit(tap=first, lost=gone, others=tuple(others)))
    return tuple(sorted(culprits, key=lambda culprit: _rank(culprit.tap), reverse=True))


def _rank(result: JudgedTap) -> tuple[bool, float]:
    if result.local is None:
        return culprit_rank(math.inf, kernel=False)
    opinion, local = result.local.opinion, result.local
    over = over_limit(local.measurement, local.verdict.strain)
    return culprit_rank(over, kernel=opinion is not None and opinion.cause is Cause.KERNEL)


class LostValues:
    """Taps that a file should hold and does not, by the tap behind them; asked once for each.

    Args:
        planned: every tap. expected: names of those that the file should hold.
    """

    def __init__(self, program: Program, planned: Iterable[PlannedTap], expected: frozenset[str]):
        self._ops = {op.name: op for op in program.ops}
        self._planned = {tap.tap.name: tap for tap in planned}
        self._expected = expected
        self._found: dict[str, tuple[PlannedTap, ...]] = {}

    def in_front_of(self, name: str) -> tuple[PlannedTap, ...]:
        """Those between a tap and the compared taps before it."""
        if name not in self._found:
            self._found[name] = tuple(self._walk(name))
        return self._found[name]

    def shown_by(self, name: str) -> frozenset[str]:
        """Values that are only moved on the way to a tap: it shows them as they are."""
        taps: set[str] = set()
        while name in self._ops and moves_elements(self._ops[name].target):
            name = next(self._ops[name].refs(), "")
            taps.add(name)
        return frozenset(taps)

    def _walk(self, name: str) -> Iterator[PlannedTap]:
        seen: set[str] = set()
        stack = list(self._ops[name].refs())
        while stack:
            name = stack.pop()
            planned = self._planned.get(name)
            compared = planned is not None and planned.fate == COMPARED
            if name in seen or name not in self._ops or compared:
                continue
            seen.add(name)
            if planned and name in self._expected:
                yield planned
            stack.extend(self._ops[name].refs())
