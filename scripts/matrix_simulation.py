"""How many cells of a simulated product are asked for until its planted faults are explained.

    python scripts/matrix_simulation.py

Products of ten axes; a fault is two values that must not stand together. Faults are drawn from a
seed. Prints a Markdown table: cells of the product, of the covering set, asked for in all, faults
that were found, and of a thousand drawn cells those of which it is told wrongly whether they fail.
Exits 1 when a fault was missed. A second table is of faults of three values: how many of them the
first cells meet, and of how many it is then told rightly which cells fail.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from exporter.matrix.cells import Cell, Space
from exporter.matrix.covering import pairwise
from exporter.matrix.explain import explain
from exporter.matrix.verdict import CellVerdict
from exporter.parity.status import Status

AXES = 10
SHAPES = {
    "10 axes of 2": (2,) * AXES,
    "10 axes of 3": (3,) * AXES,
    "mixed 6 4 4 3 3 2 2 2 2 2": (6, 4, 4, 3, 3, 2, 2, 2, 2, 2),
}
FAULTS = (1, 2, 3)
SEEDS = range(5)
SAMPLE, DRAWS = 1000, 20


class Everything:
    """All combinations exist."""

    limits = False

    def __call__(self, values: dict) -> bool:
        return True


@dataclass
class Simulated:
    """A product with planted faults; counts what is asked."""

    faults: list[frozenset]
    found: dict[Cell, CellVerdict]

    def __call__(self, cells: Iterable[Cell]) -> dict[Cell, CellVerdict]:
        asked = list(cells)
        for cell in asked:
            bad = any(fault <= set(cell.values) for fault in self.faults)
            status = Status.FAIL if bad else Status.PASS
            self.found.setdefault(cell, CellVerdict(status=status))
        return {cell: self.found[cell] for cell in asked}


def space_of(sizes: tuple[int, ...]) -> Space:
    axes = {f"axis_{at}": tuple(range(size)) for at, size in enumerate(sizes)}
    return Space(axes=axes, between={}, ordered=frozenset(), exists=Everything())


def drawn_faults(space: Space, count: int, seed: int, factors: int = 2) -> list[frozenset]:
    """Values of so many axes each."""
    draw = random.Random(seed)
    found: list[frozenset] = []
    while len(found) < count:
        axes = draw.sample(list(space.axes), factors)
        fault = frozenset((axis, draw.choice(space.axes[axis])) for axis in axes)
        if fault not in found:
            found.append(fault)
    return found


def simulate(sizes: tuple[int, ...], count: int, seed: int) -> tuple[int, int, int, int]:
    """Cells of the covering set, cells asked for, faults found, cells that are told wrongly.

    A fault is found when every cell with its two values is told to fail. Cells are all of a small
    product, or drawn from a large one, with as many inside of each fault.
    """
    space = space_of(sizes)
    ask = Simulated(drawn_faults(space, count, seed), {})
    ask(first := pairwise(space))
    told = explain(space, ask, ask.found)
    asked = len(ask.found)
    draw = random.Random(seed + 1)
    drawn = [tuple((a, draw.choice(v)) for a, v in space.axes.items()) for _ in range(SAMPLE)]
    inside = {
        fault: [Cell(tuple((dict(fault) | {a: v for a, v in row if a not in dict(fault)}).items()))
                for row in drawn]
        for fault in ask.faults
    }  # fmt: skip
    found = sum(
        all(any(e.holds(cell) for e in told) for cell in cells) for cells in inside.values()
    )
    wrong = sum(
        any(e.holds(Cell(row)) for e in told) != any(fault <= set(row) for fault in ask.faults)
        for row in drawn
    )
    return len(first), asked, found, wrong


def three_factors(sizes: tuple[int, ...], seeds: Iterable[int]) -> tuple[int, int]:
    """Faults of three values that the first cells meet; those of them that are told rightly."""
    met = right = 0
    for seed in seeds:
        space = space_of(sizes)
        (fault,) = drawn_faults(space, 1, seed, factors=3)
        ask = Simulated([fault], {})
        ask(pairwise(space))
        told = explain(space, ask, ask.found)
        if told:
            met += 1
            right += [item.where for item in told] == [
                {a: (v,) for a, v in told_order(fault, space)}
            ]
    return met, right


def told_order(fault: frozenset, space: Space) -> list:
    """The values of a fault in the order of the axes."""
    return sorted(fault, key=lambda pair: list(space.axes).index(pair[0]))


def main() -> int:
    head = "| product | cells | faults planted | covering set | asked, most | share | found |"
    print(f"{head} told wrongly |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    missed = 0
    for name, sizes in SHAPES.items():
        whole = 1
        for size in sizes:
            whole *= size
        for count in FAULTS:
            runs = [simulate(sizes, count, seed) for seed in SEEDS]
            most, hit = max(run[1] for run in runs), sum(run[2] for run in runs)
            wrong = sum(run[3] for run in runs)
            missed += count * len(runs) - hit
            share = f"{100 * most / whole:.2g} %"
            print(
                f"| {name} | {whole:,} | {count} x {len(runs)} draws | {runs[0][0]} | {most} |"
                f" {share} | {hit} of {count * len(runs)} | {wrong} of {SAMPLE * len(runs):,} |",
                flush=True,
            )
    print("\n| product | faults of three values | met by the covering set | told rightly |")
    print("|---|--:|--:|--:|")
    for name, sizes in SHAPES.items():
        met, right = three_factors(sizes, range(DRAWS))
        missed += met - right
        print(f"| {name} | {DRAWS} | {met} | {right} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
