"""Sizes for which a capture's guards hold are found by trying them, not by solving equations."""

from __future__ import annotations

import pytest

from exporter.core.tensors import Axis
from exporter.graph.bounds import bounded
from exporter.graph.guards import Guard

N = ("size", "x", 1)
SHAPES = {"x": ("batch", "frames", 4)}
SIZES = {"batch": 3, "frames": 40}
SAME = ("Eq", ("FloorDiv", ("Add", N, -1), 2), ("Add", ("FloorDiv", ("Add", N, -3), 2), 1))
KINDS = {
    "true of every size": (SAME, (1, None, 1)),
    "a multiple": (("Eq", ("Mod", N, 8), 0), (1, None, 8)),
    "at most": (("Le", N, 209), (1, 209, 1)),
    "at least": (("Ge", N, 11), (11, None, 1)),
    "no more than far away": (("Lt", N, 20007), (1, 20006, 1)),
    "a multiple of a sum": (("Eq", ("Mod", ("Add", N, -16), 8), 0), (1, None, 8)),
    "the example's size alone": (("Eq", N, 40), (40, 40, 1)),
    "at least, between the sizes tried first": (
        ("Ge", ("FloorDiv", ("Add", ("Mul", N, 16), -127), 96), 3),
        (26, None, 1),
    ),
    "at most, of a quotient": (("Lt", ("FloorDiv", N, 7), 31), (1, 216, 1)),
    "between": (("And", ("Ge", N, 20), ("Le", N, 64)), (20, 64, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_axis_gets_the_sizes_for_which_all_holds(kind):
    condition, (lowest, highest, step) = KINDS[kind]
    guard = Guard(condition=condition, source="model.py:7", by_model=True)
    axis, place = bounded([guard], SHAPES, SIZES, Axis(name="frames"))
    assert (axis.minimum, axis.maximum, axis.multiple_of) == (lowest, highest, step)
    assert place == ("" if kind == "true of every size" else "model.py:7")


def test_guards_of_other_axes_say_nothing_of_this_one():
    guard = Guard(condition=("Le", ("size", "x", 0), 3), source="", by_model=False)
    assert bounded([guard], SHAPES, SIZES, Axis(name="frames"))[0] == Axis(name="frames")


def test_declared_limits_stay():
    declared = Axis(name="frames", minimum=8, maximum=64, multiple_of=8)
    guard = Guard(condition=("Eq", ("Mod", N, 4), 0), source="", by_model=False)
    assert bounded([guard], SHAPES, SIZES, declared)[0] == declared
