"""Sizes that are divided below zero are rounded down in the file, as in Python."""

from __future__ import annotations

import operator

import pytest

from exporter.graph.decompose import with_floor_division
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, left_alone, model

CASES = ([8, 2], [9, 9, 9], [50], [101], [1])
NEGATIVE = {
    "rounded up": "n = -(-x.shape[1] // 2)",
    "far below zero": "n = (x.shape[1] - 100) // 7 + 200",
    "twice": "n = -((-x.shape[1] // 2) // 3)",
}


@pytest.mark.parametrize("name", NEGATIVE)
def test_a_division_below_zero_is_rounded_down_in_the_file(tmp_path, name):
    forward = f"{NEGATIVE[name]}\nreturn torch.arange(n) + x_lengths.sum() + 0.0 * x.sum()"
    holds(model(tmp_path, forward, name="divided"), tmp_path, CASES)


def test_a_division_of_what_is_never_negative_stays_as_it_is(tmp_path):
    forward = "n = x.shape[1] // 2 + 1\nreturn torch.arange(n) + x_lengths.sum() + 0.0 * x.sum()"
    found = capture_openly(model(tmp_path, forward, name="plainly_divided"))
    assert operator.floordiv in left_alone(found, with_floor_division)
