"""What failing cells have in common: the smallest difference to those that pass, by asking more.

reduce      the failing cell goes value by value towards the passing one that is nearest, as
            long as it fails: what is left cannot be taken away (Zeller, "Isolating cause-effect
            chains from computer programs", FSE 2002)
look around every other value of every axis, one at a time: which values belong to it
bisect      releases between the last that fails and the first that does not
doubt       cells that should fail as well, far from this one; where one passes, it is the
            passing cell of another round
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.matrix.cells import Cell, Space
from exporter.matrix.schema import RELEASES, Value, release_key, text_of
from exporter.matrix.verdict import Verdict
from exporter.parity.status import JUDGED, Status

Ask = Callable[[Iterable[Cell]], Mapping[Cell, Verdict]]
_DOUBTS, _ROUNDS, _TRIES = 3, 4, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Two releases next to each other, of which one fails and one does not."""

    axis: str
    before: str
    after: str
    fails_before: bool

    def text(self) -> str:
        """``moved between onnxruntime 1.29.0 and 1.30.0``."""
        which = "before it" if self.fails_before else "from it on"
        return f"moved between {self.axis} {self.before} and {self.after}, fails {which}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where cells fail.

    Attributes:
        where: axis -> values with which it fails, in order; axes that do not matter are left out.
        example: a failing cell that has nothing in it that could be taken away.
        verdict: of the example.
        moves: where along a version axis it begins or ends.
        trail: version axis -> release and verdict of the example with it, oldest first.
        failing: how many cells it explains. passing: cells that it would, and that pass.
    """

    where: Mapping[str, tuple[Value, ...]]
    example: Cell
    verdict: Verdict
    moves: tuple[Move, ...] = ()
    trail: Mapping[str, tuple[tuple[str, Verdict], ...]]
    failing: int = 0
    passing: tuple[Cell, ...] = ()

    def holds(self, cell: Cell) -> bool:
        """Whether a cell is one of those."""
        return all(cell[axis] in values for axis, values in self.where.items())

    def text(self, space: Space) -> str:
        """``only provider cuda and length at least 480000``."""
        if not self.where:
            return "in every cell"
        said = [self._axis_text(space, axis) for axis in self.where]
        return f"only {' and '.join(said)}"

    def _axis_text(self, space: Space, axis: str) -> str:
        bad = self.where[axis]
        known = sorted_values(axis, {*space.axes[axis], *bad, *self._asked(axis)}, space)
        if axis in space.ordered and len(bad) < len(known):
            count = len(bad)
            version = axis in RELEASES
            if set(known[:count]) == set(bad):
                end = f"before {known[count]}" if version else f"at most {known[count - 1]}"
                return f"{axis} {end}"
            if set(known[-count:]) == set(bad):
                return f"{axis} {'from' if version else 'at least'} {known[-count]}"
        return f"{axis} {' or '.join(text_of(value) for value in bad)}"

    def _asked(self, axis: str) -> set[Value]:
        return {release for release, _ in self.trail.get(axis, ())}


def sorted_values(axis: str, values: Iterable[Value], space: Space) -> list[Value]:
    """Values of an axis in its order; of one that has none, in the order of the file."""
    if axis in RELEASES:
        return sorted(values, key=lambda value: release_key(str(value)))
    if axis in space.ordered:
        return sorted(values, key=float)
    order = list(space.axes[axis])
    return sorted(values, key=lambda v: order.index(v) if v in order else len(order))


def explain(space: Space, ask: Ask, found: Mapping[Cell, Verdict]) -> list[Explanation]:
    """Explain every failing cell; ``found`` grows by what is asked for.

    Args:
        ask: runs cells, or knows them.
    """
    first = [cell for cell, verdict in found.items() if verdict.bad]
    result: list[Explanation] = []
    while True:
        held = [c for c, v in found.items() if v.bad and not any(e.holds(c) for e in result)]
        if held:
            result.append(_Search(space, ask, found).explain(held[0]))
            continue
        hidden = {c for cell in first for c in _freed(cell, result, space)} - found.keys()
        if not any(verdict.bad for verdict in ask(hidden).values()):
            return [_counted(item, found) for item in result]


def _freed(cell: Cell, known: Sequence[Explanation], space: Space) -> Iterator[Cell]:
    """A failing cell without what is known to fail in it: another fault may stand behind that."""
    for item in known:
        for axis in item.where if item.holds(cell) else ():
            free: Cell | None = _flipped(cell, item, axis, space)
            for other in known:
                if free is not None and other.holds(free):
                    free = _flipped(free, other, next(iter(other.where), axis), space)
            if free is not None and not any(other.holds(free) for other in known):
                yield free


def _flipped(cell: Cell, item: Explanation, axis: str, space: Space) -> Cell | None:
    """The cell with a value that does not fail there; None where there is none."""
    bad = item.where.get(axis, ())
    free = (cell.given(axis, value) for value in space.axes[axis] if value not in bad)
    return next((other for other in free if space.has(other)), None)


def _counted(item: Explanation, found: Mapping[Cell, Verdict]) -> Explanation:
    inside = {cell: verdict for cell, verdict in found.items() if item.holds(cell)}
    passing = tuple(cell for cell, verdict in inside.items() if verdict.status is Status.PASS)
    failing = sum(verdict.bad for verdict in inside.values())
    return replace(item, failing=failing, passing=passing)


class _Search:
    """One explanation."""

    def __init__(self, space: Space, ask: Ask, found: Mapping[Cell, Verdict]) -> None:
        self._space, self._ask, self._found = space, ask, found
        self._draw = random.Random(0)  # noqa: S311 - the same cells in every run

    def explain(self, start: Cell) -> Explanation:
        cell, where = start, {}
        passing = self._nearest(start)
        for _ in range(_ROUNDS):
            if passing is not None:
                cell = self._reduced(cell, passing)
            where = self._around(cell, passing, where)
            passing = self._doubted(cell, where)
            if passing is None:
                break
        if any(start[axis] not in values for axis, values in where.items()):
            # On the way to a passing cell another fault took over: it has a round of its own.
            alone: dict[str, tuple[Value, ...]] = {axis: (value,) for axis, value in start.values}
            cell, where = start, self._around(start, None, {}) or alone
        trail, moves = {}, []
        for axis in where:
            if axis in RELEASES:
                trail[axis], steps = self._bisected(cell, axis)
                moves += steps
                bad = {release for release, verdict in trail[axis] if verdict.bad}
                where[axis] = tuple(sorted_values(axis, {*where[axis], *bad}, self._space))
        return Explanation(
            where=where,
            example=cell,
            verdict=self._found[cell],
            moves=tuple(moves),
            trail=trail,
        )

    def _bad(self, cell: Cell) -> bool:
        return self._space.has(cell) and self._ask([cell])[cell].bad

    def _nearest(self, cell: Cell) -> Cell | None:
        """The passing cell with the fewest other values."""
        passing = [c for c, v in self._found.items() if v.status is Status.PASS]
        return min(passing, key=lambda other: len(_differing(cell, other)), default=None)

    def _reduced(self, cell: Cell, passing: Cell) -> Cell:
        """The cell with as many values of the passing one as it still fails with."""
        axes = _differing(cell, passing)
        flips = {axis: cell.given(axis, passing[axis]) for axis in axes}
        asked = self._ask([c for c in flips.values() if self._space.has(c)])
        free = [axis for axis, flip in flips.items() if flip in asked and asked[flip].bad]
        at_once = cell
        for axis in free:
            at_once = at_once.given(axis, passing[axis])
        if self._bad(at_once):
            return at_once
        for axis in free:
            flip = cell.given(axis, passing[axis])
            if self._bad(flip):
                cell = flip
        return cell

    def _around(
        self, cell: Cell, passing: Cell | None, before: Mapping[str, tuple[Value, ...]]
    ) -> dict[str, tuple[Value, ...]]:
        """Axis -> values with which the cell fails, for axes where another one helps."""
        near = {
            axis: {v: cell.given(axis, v) for v in values if v != cell[axis]}
            for axis, values in self._space.axes.items()
        }
        asked = self._ask(
            [c for flips in near.values() for c in flips.values() if self._space.has(c)]
        )
        where = {}
        for axis, flips in near.items():
            judged = {v: asked[c] for v, c in flips.items() if c in asked}
            judged = {v: verdict for v, verdict in judged.items() if verdict.status in JUDGED}
            bad = {cell[axis], *(v for v, verdict in judged.items() if verdict.bad)}
            if axis in before:
                bad &= {cell[axis], *before[axis]}
            differs = passing is not None and passing[axis] != cell[axis]
            helps = any(not verdict.bad for verdict in judged.values()) or axis in before
            if differs and passing is not None and not helps:
                # Alone it does not help; together with another value of the passing cell it does.
                continue
            if helps:
                where[axis] = tuple(sorted_values(axis, bad, self._space))
        return where

    def _doubted(self, cell: Cell, where: Mapping[str, tuple[Value, ...]]) -> Cell | None:
        """A cell that should fail and passes; cells far away are asked for it."""
        inside = [c for c in self._found if all(c[a] in v for a, v in where.items())]
        for other in inside:
            if self._found[other].status is Status.PASS:
                return other
        new: list[Cell] = []
        for _ in range(_TRIES):
            values = {a: self._draw.choice(where.get(a, v)) for a, v in self._space.axes.items()}
            drawn = Cell(tuple((axis, values[axis]) for axis in self._space.axes))
            if self._space.has(drawn) and drawn not in self._found and drawn not in new:
                new.append(drawn)
            if len(new) == _DOUBTS:
                break
        asked = self._ask(new)
        return next((c for c in new if asked[c].status is Status.PASS), None)

    def _bisected(
        self, cell: Cell, axis: str
    ) -> tuple[tuple[tuple[str, Verdict], ...], list[Move]]:
        """Verdicts along a version axis, and every step from failing to not failing."""
        further = [str(value) for value in self._space.between.get(axis, ())]
        held = {str(value): cell.given(axis, value) for value in self._space.axes[axis]}
        known = self._judged(held)
        while True:
            order = sorted(known, key=release_key)
            gap = next(
                (
                    inside
                    for old, new in itertools.pairwise(order)
                    if known[old].bad != known[new].bad and (inside := _inside(further, old, new))
                ),
                None,
            )
            if gap is None:
                break
            middle = gap[len(gap) // 2]
            further.remove(middle)
            known |= self._judged({middle: cell.given(axis, middle)})
        steps = [
            Move(axis=axis, before=old, after=new, fails_before=known[old].bad)
            for old, new in itertools.pairwise(order)
            if known[old].bad != known[new].bad
        ]
        return tuple((release, known[release]) for release in order), steps

    def _judged(self, cells: Mapping[str, Cell]) -> dict[str, Verdict]:
        here = {r: c for r, c in cells.items() if self._space.has(c)}
        asked = self._ask(list(here.values()))
        return {r: asked[c] for r, c in here.items() if asked[c].status in JUDGED}


def _differing(cell: Cell, other: Cell) -> list[str]:
    return [axis for axis, value in cell.values if other[axis] != value]


def _inside(releases: Sequence[str], old: str, new: str) -> list[str]:
    found = [r for r in releases if release_key(old) < release_key(r) < release_key(new)]
    return sorted(found, key=release_key)
