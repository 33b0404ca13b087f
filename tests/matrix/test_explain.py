"""What failing cells have in common: planted faults of products that nobody runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from exporter.matrix.cells import Cell, Space
from exporter.matrix.covering import pairs_of, pairwise
from exporter.matrix.explain import explain
from exporter.matrix.verdict import CellVerdict, FirstLayer
from exporter.parity.status import Status

ROOT = Path(__file__).resolve().parents[2]


class Simulated:
    """Cells of which a rule says whether they fail."""

    def __init__(self, fails: Callable[[Cell], bool]):
        self.fails, self.found = fails, {}

    def __call__(self, cells: Iterable[Cell]) -> dict[Cell, CellVerdict]:
        asked = list(cells)
        for cell in asked:
            bad = self.fails(cell)
            first = FirstLayer(module="norm1", op="layer_norm") if bad else None
            verdict = CellVerdict(status=Status.FAIL if bad else Status.PASS, first=first)
            self.found.setdefault(cell, verdict)
        return {cell: self.found[cell] for cell in asked}


class Every:
    limits = False

    def __call__(self, values: dict) -> bool:
        return True


class NoFloat16OnCpu(Every):
    limits = True

    def __call__(self, values: dict) -> bool:
        return (values.get("provider"), values.get("precision")) != ("cpu", "float16")


AXES = {
    "pipeline": ("a", "b", "c"),
    "onnxruntime": ("1.23.2", "1.26.0", "1.29.0", "1.30.0", "1.31.1"),
    "provider": ("cpu", "cuda"),
    "precision": ("float32", "float16"),
    "length": (16000, 160000, 480000, 960000),
    "threads": (1, 2, 4),
}


def space(exists: Every | None = None) -> Space:
    return Space(
        axes=AXES,
        between={"onnxruntime": ("1.24.4", "1.27.0", "1.28.0")},
        ordered=frozenset({"onnxruntime", "length", "threads"}),
        exists=exists or Every(),
    )


def told(fails: Callable[[Cell], bool], exists: Every | None = None) -> tuple[list[str], Simulated]:
    held, ask = space(exists), Simulated(fails)
    ask(pairwise(held))
    return [item.text(held) for item in explain(held, ask, ask.found)], ask


def newer(cell: Cell, release: str) -> bool:
    return tuple(map(int, cell["onnxruntime"].split("."))) >= tuple(map(int, release.split(".")))


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (lambda c: c["pipeline"] == "b", ["only pipeline b"]),
        (
            lambda c: c["provider"] == "cuda" and c["precision"] == "float16" and c["length"] > 2e5,
            ["only provider cuda and precision float16 and length at least 480000"],
        ),
        (
            lambda c: c["pipeline"] == "a" and not newer(c, "1.28.0"),
            ["only pipeline a and onnxruntime before 1.28.0"],
        ),
        (lambda c: c["threads"] <= 2, ["only threads at most 2"]),
        (lambda c: True, ["in every cell"]),
        (lambda c: False, []),
    ],
)
def test_the_smallest_difference_is_named(fails, said):
    found, ask = told(fails)
    assert found == said
    assert len(ask.found) < 120  # of 720


def test_two_faults_are_two_sentences():
    def fails(cell: Cell) -> bool:
        first = cell["provider"] == "cuda" and cell["threads"] == 4
        return first or (cell["pipeline"] == "c" and newer(cell, "1.30.0"))

    found, _ = told(fails)
    assert sorted(found) == [
        "only pipeline c and onnxruntime from 1.30.0",
        "only provider cuda and threads at least 4",
    ]


def test_a_version_axis_is_bisected_between_its_values():
    held, ask = space(), Simulated(lambda c: c["pipeline"] == "a" and not newer(c, "1.28.0"))
    ask(pairwise(held))
    (item,) = explain(held, ask, ask.found)
    (move,) = item.moves
    assert (move.axis, move.before, move.after) == ("onnxruntime", "1.27.0", "1.28.0")
    assert move.text() == "moved between onnxruntime 1.27.0 and 1.28.0, fails before it"
    assert item.verdict.first is not None and item.verdict.first.module == "norm1"
    # 1.24.4 lies between two that fail: nobody asks for it.
    assert not any(cell["onnxruntime"] == "1.24.4" for cell in ask.found)


def test_what_does_not_exist_is_never_asked_for():
    found, ask = told(lambda c: c["precision"] == "float16" and c["threads"] == 1, NoFloat16OnCpu())
    assert all(NoFloat16OnCpu()(dict(cell.values)) for cell in ask.found)
    assert found == ["only precision float16 and threads at most 1"]


@pytest.mark.parametrize("exists", [Every(), NoFloat16OnCpu()])
def test_every_pair_of_values_stands_together(exists):
    held = space(exists)
    chosen = pairwise(held)
    every = set().union(*map(pairs_of, held.cells()))
    assert set().union(*map(pairs_of, chosen)) == every
    assert len(chosen) < 40


def test_planted_faults_of_ten_axes_are_found_with_a_tenth_of_the_cells(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from matrix_simulation import SHAPES, simulate

    for sizes in SHAPES.values():
        whole = 1
        for size in sizes:
            whole *= size
        for count in (1, 2):
            _, asked, found, wrong = simulate(sizes, count, seed=3)
            assert found == count and wrong == 0
            assert asked <= whole / 10


def test_faults_of_three_values_are_told_as_those_three(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from matrix_simulation import three_factors

    met, right = three_factors((6, 4, 4, 3, 3, 2, 2, 2, 2, 2), range(12))
    assert met == right > 1


def told_of_random_failures(share: float, seed: int):
    axes = {f"a{at}": tuple(range(size)) for at, size in enumerate((6, 4, 4, 3, 3, 2))}
    held = Space(axes=axes, between={}, ordered=frozenset(), exists=Every())

    def fails(cell: Cell) -> bool:
        return random.Random(repr((seed, cell.values))).random() < share

    ask = Simulated(fails)
    ask(pairwise(held))
    return explain(held, ask, ask.found), ask, held


@pytest.mark.parametrize(("share", "seed"), [(0.3, 0), (0.3, 1), (0.5, 0), (0.8, 1)])
def test_failures_without_a_pattern_are_given_none(share: float, seed: int):
    told, ask, held = told_of_random_failures(share, seed)
    assert [item.text(held) for item in told] == ["without anything in common that was found"]
    assert told[0].failing == sum(v.bad for v in ask.found.values()) == len(told[0].alone)
    assert len(ask.found) < 400  # of 1,728: nobody searches for what is not there


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
def test_no_sentence_holds_of_a_cell_that_passes(share: float):
    for seed in range(4):
        told, ask, _ = told_of_random_failures(share, seed)
        for cell, verdict in ask.found.items():
            assert verdict.bad == any(item.holds(cell) for item in told)


def test_a_fault_beside_failures_without_a_pattern_is_still_told():
    def fails(cell: Cell) -> bool:
        by_chance = random.Random(repr(cell.values)).random() < 0.15
        return by_chance or cell["pipeline"] == "b"

    found, _ = told(fails)
    assert found == ["only pipeline b", "without anything in common that was found"]


class SomeNotRun(Simulated):
    """Cells with some values are not run."""

    def __init__(self, fails: Callable[[Cell], bool], not_run: Callable[[Cell], bool]):
        super().__init__(fails)
        self.not_run = not_run

    def __call__(self, cells: Iterable[Cell]) -> dict[Cell, CellVerdict]:
        asked = list(cells)
        for cell in filter(self.not_run, asked):
            self.found.setdefault(
                cell, CellVerdict(status=Status.NOT_RUN, reason="no such release")
            )
        return super().__call__(asked)


@pytest.mark.parametrize(
    ("fails", "not_run", "said", "unknown"),
    [
        (  # nobody knows whether the provider matters
            lambda c: True,
            lambda c: c["provider"] == "cuda",
            "in every cell that was run",
            {"provider": ("cuda",)},
        ),
        (  # it passes from 1.30.0 on; of 1.28.0 and 1.29.0 nobody knows
            lambda c: not newer(c, "1.30.0"),
            lambda c: c["onnxruntime"] in ("1.28.0", "1.29.0"),
            "only onnxruntime before 1.30.0",
            {"onnxruntime": ("1.29.0",)},
        ),
        (
            lambda c: c["length"] >= 480000,
            lambda c: c["length"] == 160000,
            "only length at least 480000",
            {"length": (160000,)},
        ),
    ],
)
def test_what_was_not_run_is_said_to_be_unknown(fails, not_run, said, unknown):
    held, ask = space(), SomeNotRun(fails, not_run)
    ask(pairwise(held))
    (item,) = explain(held, ask, ask.found)
    assert (item.text(held), item.unknown) == (said, unknown)
    if "onnxruntime" in unknown:
        (move,) = item.moves
        assert (move.before, move.after) == ("1.27.0", "1.30.0")


@pytest.mark.parametrize("seed", [5, 37, 68, 101])
def test_faults_that_hide_each_other_come_to_an_end(seed: int):
    """On the way from a failing cell to a passing one another fault may take over."""
    draw = random.Random(seed)
    axes = {f"a{at}": tuple(range(draw.choice([2, 2, 3]))) for at in range(draw.choice([3, 4, 5]))}
    held = Space(axes=axes, between={}, ordered=frozenset(), exists=Every())
    share = draw.choice([0.1, 0.3, 0.5])
    bad = {cell for cell in held.cells() if draw.random() < share}
    left = iter(range(20_000))

    def fails(cell: Cell) -> bool:
        assert next(left, None) is not None, "it goes round in circles"
        return cell in bad

    ask = Simulated(fails)
    ask(pairwise(held))
    found = explain(held, ask, ask.found)
    assert all(any(item.holds(cell) for item in found) for cell in ask.found if cell in bad)
