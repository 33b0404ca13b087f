"""What rounding of the input does to PyTorch itself is not held against ONNX; nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.contracts.compare.agree import within_reach

LEFT = np.zeros((2, 5), np.float32)


def moved(value: float, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.full(shape, value, np.float32) for shape in shapes or ((2, 5),)]


@pytest.mark.parametrize(("gap", "expected"), [(1.0, True), (2.0, True), (2.1, False)])
def test_a_gap_is_excused_up_to_twice_pytorchs_own(gap: float, expected: bool) -> None:
    assert within_reach(LEFT, LEFT + np.float32(gap), moved(1.0)) is expected


def test_what_does_not_move_excuses_nothing() -> None:
    assert not within_reach(LEFT, LEFT + np.float32(1e-30), moved(0.0))
    assert not within_reach(np.array([1, 2]), np.array([1, 3]), [np.array([1, 2])])


def test_decisions_are_counted() -> None:
    left, flips = np.array([1, 2, 3, 4]), [np.array([1, 2, 3, 9])]
    assert within_reach(left, np.array([9, 9, 3, 4]), flips)
    assert not within_reach(left, np.array([9, 9, 9, 4]), flips)


def test_another_number_of_things_is_excused_only_on_the_axis_where_pytorch_finds_another() -> None:
    runs = moved(0.0, (2, 6), (2, 5))
    assert within_reach(LEFT, np.zeros((2, 7), np.float32), runs)
    assert within_reach(LEFT, np.zeros((2, 4), np.float32), runs)
    assert not within_reach(LEFT, np.zeros((2, 8), np.float32), runs)
    assert not within_reach(LEFT, np.zeros((3, 5), np.float32), runs)
    assert not within_reach(LEFT, np.zeros((2, 5, 1), np.float32), runs)
    assert not within_reach(LEFT, np.zeros((2, 6), np.float32), moved(9.0))


def test_nan_is_never_excused() -> None:
    broken = LEFT.copy()
    broken[0, 0] = np.nan
    assert not within_reach(LEFT, broken, moved(np.nan))
    assert not within_reach(LEFT, broken, moved(0.0, (2, 6)))
    assert within_reach(LEFT, LEFT + np.float32(3), moved(0.0, (2, 6)))
