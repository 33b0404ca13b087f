"""Which cells come first: a set in which every pair of values stands together once.

Most faults of products need two factors at most (Kuhn, Wallace and Gallo, "Software fault
interactions and implications for software testing", IEEE TSE 30, 2004).
"""

from __future__ import annotations

import itertools
from typing import Any

from covertable import make

from exporter.matrix.cells import Cell, Space
from exporter.matrix.schema import Value


def pairwise(space: Space) -> tuple[Cell, ...]:
    """Cells in which every pair of values that may stand together does.

    All cells where there are one or two axes; a pair that exists in no whole cell is left out.
    """
    many = {name: list(values) for name, values in space.axes.items() if len(values) > 1}
    if len(many) < 2:
        return tuple(space.cells())
    fixed = {name: values[0] for name, values in space.axes.items() if len(values) == 1}
    rows: list[Any] = make(
        many,
        strength=2,
        constraints=[_constraint(space, fixed, pair) for pair in itertools.combinations(many, 2)]
        + [_constraint(space, fixed, tuple(many))],
    )
    rows_found = [_cell(space, {**fixed, **row}) for row in rows if set(row) == set(many)]
    cells = [cell for cell in rows_found if space.has(cell)]
    return tuple(dict.fromkeys([*cells, *_forgotten(space, cells)]))


def _constraint(space: Space, fixed: dict[str, Value], axes: tuple[str, ...]) -> dict[str, Any]:
    def may(row: dict[str, Value]) -> bool:
        return space.exists({**fixed, **{axis: row[axis] for axis in axes}})

    return {"operator": "fn", "requires": list(axes), "evaluate": may}


def _cell(space: Space, values: dict[str, Value]) -> Cell:
    return Cell(tuple((name, values[name]) for name in space.axes))


def pairs_of(cell: Cell) -> set[tuple[tuple[str, Value], tuple[str, Value]]]:
    """Every two values that stand together in a cell."""
    return set(itertools.combinations(cell.values, 2))


def _forgotten(space: Space, cells: list[Cell]) -> list[Cell]:
    """Cells for pairs that a constraint on three axes has kept out of the set."""
    if not space.exists.limits:
        return []
    seen = set().union(*(pairs_of(cell) for cell in cells)) if cells else set()
    added = []
    for cell in space.cells():
        new = pairs_of(cell) - seen
        if new:
            seen |= new
            added.append(cell)
    return added
