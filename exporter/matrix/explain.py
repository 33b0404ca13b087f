"""What failing cells have in common: the smallest difference to those that pass, by asking more.

reduce      the failing cell goes value by value towards the passing one that is nearest, as
            long as it fails: what is left cannot be taken away (Zeller, "Isolating cause-effect
            chains from computer programs", FSE 2002)
look around every other value of every axis, one at a time: which values belong to it
bisect      releases between the last that fails and the first that does not
doubt       cells that should fail as well, far from this one; where one passes, it is the
            passing cell of another round

Nothing is said of cells together that a cell speaks against. Where cells fail by themselves, each
with neighbours that pass, no pattern is made up: they are told as what they are.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from exporter.matrix.cells import Cell, Space
from exporter.matrix.schema import RELEASES, Value, release_key, text_of
from exporter.matrix.verdict import CellVerdict
from exporter.parity.status import JUDGED, Status

Ask = Callable[[Iterable[Cell]], Mapping[Cell, CellVerdict]]
_DOUBTS, _ROUNDS, _TRIES = 3, 4, 200
_MORE_DOUBTS = 8
MOST_ALONE, MOST_TOLD, _MANY_AXES = 3, 8, 4
"""Sentences for a cell that fails by itself or for so many axes; sentences at all. What needs more
has no pattern: faults of products hardly ever need four values at once (see ``covering``)."""


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
        unknown: axis -> values with which the example was not run.
        alone: cells that have nothing in common; ``where`` is empty then.
        failing: how many cells it explains.
    """

    where: Mapping[str, tuple[Value, ...]]
    example: Cell
    verdict: CellVerdict
    moves: tuple[Move, ...] = ()
    trail: Mapping[str, tuple[tuple[str, CellVerdict], ...]]
    unknown: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    alone: frozenset[Cell] = frozenset()
    failing: int = 0

    def holds(self, cell: Cell) -> bool:
        """Whether a cell is one of those."""
        if self.alone:
            return cell in self.alone
        return _inside_of(self.where, cell)

    def text(self, space: Space) -> str:
        """``only provider cuda and length at least 480000``."""
        if self.alone:
            return "without anything in common that was found"
        if not self.where:
            return "in every cell that was run" if self.unknown else "in every cell"
        said = [self._axis_text(space, axis) for axis in self.where]
        return f"only {' and '.join(said)}"

    def _axis_text(self, space: Space, axis: str) -> str:
        bad = self.where[axis]
        values = {*space.axes[axis], *self._asked(axis)} - {*self.unknown.get(axis, ())}
        known = sorted_values(axis, values | {*bad}, space)
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


def explain(space: Space, ask: Ask, verdicts: Mapping[Cell, CellVerdict]) -> list[Explanation]:
    """Explain every failing cell; ``verdicts`` grows by what is asked for.

    Args:
        ask: runs cells, or knows them.
    """
    first = [cell for cell, verdict in verdicts.items() if verdict.bad]
    result: list[Explanation] = []
    while True:
        # By now a cell may be known that speaks against what was found before it.
        result = [item for item in result if not any(map(item.holds, _passing(verdicts)))]
        lone = [e for e in result if len(e.where) >= _MANY_AXES or _failing(e, verdicts) == 1]
        if len(lone) > MOST_ALONE or len(result) > MOST_TOLD:
            kept = [item for item in result if item not in lone]
            for item in kept:
                _Search(space, ask, verdicts).doubt(item.where)
            return [_counted(item, verdicts) for item in _rest_without_pattern(kept, verdicts)]
        bad = [c for c, v in verdicts.items() if v.bad and not any(e.holds(c) for e in result)]
        if bad:
            result.append(_Search(space, ask, verdicts).explain(bad[0]))
            continue
        hidden = {c for cell in first for c in _freed(cell, result, space)} - verdicts.keys()
        ask(hidden)
        if not hidden:
            return [_counted(item, verdicts) for item in result]


def _passing(verdicts: Mapping[Cell, CellVerdict]) -> list[Cell]:
    return [cell for cell, verdict in verdicts.items() if verdict.status is Status.PASS]


def _failing(item: Explanation, verdicts: Mapping[Cell, CellVerdict]) -> int:
    return sum(verdict.bad and item.holds(cell) for cell, verdict in verdicts.items())


def _rest_without_pattern(
    kept: Sequence[Explanation], verdicts: Mapping[Cell, CellVerdict]
) -> list[Explanation]:
    """What no cell speaks against, and together all cells of which nothing of that holds."""
    kept = [item for item in kept if not any(map(item.holds, _passing(verdicts)))]
    alone = [c for c, v in verdicts.items() if v.bad and not any(item.holds(c) for item in kept)]
    if not alone:
        return list(kept)
    rest = Explanation(
        where={}, example=alone[0], verdict=verdicts[alone[0]], trail={}, alone=frozenset(alone)
    )
    return [*kept, rest]


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


def _counted(item: Explanation, verdicts: Mapping[Cell, CellVerdict]) -> Explanation:
    return replace(item, failing=_failing(item, verdicts))


class _Search:
    """One explanation."""

    def __init__(self, space: Space, ask: Ask, verdicts: Mapping[Cell, CellVerdict]) -> None:
        self._space, self._ask, self._found = space, ask, verdicts
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
        alone: dict[str, tuple[Value, ...]] = {axis: (value,) for axis, value in start.values}
        if any(start[axis] not in values for axis, values in where.items()):
            # On the way to a passing cell another fault took over: it has a round of its own.
            cell, where = start, self._around(start, None, {}) or alone
        if any(_inside_of(where, other) for other in _passing(self._found)):
            cell, where = start, alone  # nothing that was found holds for more than this cell
        trail, moves = {}, []
        for axis in where:
            if axis in RELEASES:
                trail[axis], steps = self._bisected(cell, axis)
                moves += steps
                bad = {release for release, verdict in trail[axis] if verdict.bad}
                wider = tuple(sorted_values(axis, {*where[axis], *bad}, self._space))
                if not any(_inside_of({**where, axis: wider}, c) for c in _passing(self._found)):
                    where[axis] = wider
        return Explanation(
            where=where,
            example=cell,
            verdict=self._found[cell],
            moves=tuple(moves),
            trail=trail,
            unknown=self._unknown(cell),
        )

    def _unknown(self, cell: Cell) -> dict[str, tuple[Value, ...]]:
        """Axis -> values with which the cell was to be run, and was not."""
        unknown = {}
        for axis, values in self._space.axes.items():
            verdicts = {value: self._found.get(cell.given(axis, value)) for value in values}
            missing = [
                v for v, verdict in verdicts.items() if verdict and verdict.status not in JUDGED
            ]
            if missing:
                unknown[axis] = tuple(sorted_values(axis, missing, self._space))
        return unknown

    def _bad(self, cell: Cell) -> bool:
        return self._space.has(cell) and self._ask([cell])[cell].bad

    def _nearest(self, cell: Cell) -> Cell | None:
        """The passing cell with the fewest other values."""
        passing = _passing(self._found)
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
        for other in _passing(self._found):
            if _inside_of(where, other):
                return other
        return self._asked_for(where, _DOUBTS)

    def doubt(self, where: Mapping[str, tuple[Value, ...]]) -> None:
        """Ask for many more cells that should fail."""
        self._asked_for(where, _MORE_DOUBTS)

    def _asked_for(self, where: Mapping[str, tuple[Value, ...]], count: int) -> Cell | None:
        new: list[Cell] = []
        for _ in range(_TRIES):
            values = {a: self._draw.choice(where.get(a, v)) for a, v in self._space.axes.items()}
            drawn = Cell(tuple((axis, values[axis]) for axis in self._space.axes))
            if self._space.has(drawn) and drawn not in self._found and drawn not in new:
                new.append(drawn)
            if len(new) == count:
                break
        asked = self._ask(new)
        return next((c for c in new if asked[c].status is Status.PASS), None)

    def _bisected(
        self, cell: Cell, axis: str
    ) -> tuple[tuple[tuple[str, CellVerdict], ...], list[Move]]:
        """Verdicts along a version axis, and every step from failing to not failing."""
        further = [str(value) for value in self._space.between.get(axis, ())]
        cells_by_value = {str(value): cell.given(axis, value) for value in self._space.axes[axis]}
        known = self._judged(cells_by_value)
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

    def _judged(self, cells: Mapping[str, Cell]) -> dict[str, CellVerdict]:
        here = {r: c for r, c in cells.items() if self._space.has(c)}
        asked = self._ask(list(here.values()))
        return {r: asked[c] for r, c in here.items() if asked[c].status in JUDGED}


def _inside_of(where: Mapping[str, tuple[Value, ...]], cell: Cell) -> bool:
    return all(cell[axis] in values for axis, values in where.items())


def _differing(cell: Cell, other: Cell) -> list[str]:
    return [axis for axis, value in cell.values if other[axis] != value]


def _inside(releases: Sequence[str], old: str, new: str) -> list[str]:
    between = [r for r in releases if release_key(old) < release_key(r) < release_key(new)]
    return sorted(between, key=release_key)
