"""Which part of a result belongs to which part of the input."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.contracts.compare.align import first_difference, learn_law, readings_of


@pytest.mark.parametrize(
    ("rate", "offset"),
    [
        (1, 0),
        (1, -2),
        (1, 4),
        (Fraction(1, 2), 0),
        (2, 2),
        (Fraction(1, 160), -1),
        (Fraction(1, 960), 4),
    ],
)
def test_a_rate_is_learned_from_two_lengths(rate: Fraction, offset: int) -> None:
    lengths = (15360, 7680)
    shapes = [(1, int(rate * length) + offset, 80) for length in lengths]
    law = learn_law(lengths, shapes)
    assert law is not None and law.axes == {1: Fraction(rate)}


@given(
    stride=st.integers(1, 8),
    kernel=st.integers(1, 9),
    short=st.integers(24, 40),
    more=st.integers(24, 64),
)
def test_strided_lengths_that_do_not_divide(
    stride: int, kernel: int, short: int, more: int
) -> None:
    lengths = (short + more, short)
    shapes = [((length - kernel) // stride + 1,) for length in lengths]
    law = learn_law(lengths, shapes)
    assert law is not None
    assert abs(law.axes[0] * more - (shapes[0][0] - shapes[1][0])) <= 1


def test_the_past_ends_where_the_shorter_of_both_ends() -> None:
    law = learn_law((20, 10), [(40,), (20,)])
    assert law is not None
    assert law.past(10, (23,)) == (slice(0, 20),)  # an open tail is left out
    assert law.past(10, (18,)) == (slice(0, 18),)  # frames that do not exist yet, too
    assert law.past(-3, (23,)) == (slice(0, 0),)


def test_results_without_time() -> None:
    law = learn_law((20, 10), [(1, 4), (1, 4)])
    assert law is not None and not law.follows
    assert learn_law((20, 10), [(1, 4), (1, 4, 4)]) is None
    assert learn_law((20, 10), [(5,), (9,)]) is None


@pytest.mark.parametrize(
    ("batch", "alone", "row", "index"),
    [
        ((3, 9, 4), (1, 7, 4), 1, (slice(1, 2), slice(0, 7), slice(0, 4))),
        ((9, 3, 4), (7, 1, 4), 2, (slice(0, 7), slice(2, 3), slice(0, 4))),
        ((6, 9, 9), (2, 7, 7), 1, (slice(2, 4), slice(0, 7), slice(0, 7))),
        ((27, 4), (7, 4), 2, (slice(18, 25), slice(0, 4))),
    ],
    ids=["rows first", "time first", "heads merged", "time merged"],
)
def test_rows_of_a_batch(batch: tuple, alone: tuple, row: int, index: tuple) -> None:
    assert next(readings_of(batch, alone, 3, row)) == index


def test_a_result_without_rows() -> None:
    assert not list(readings_of((4, 4), (4, 4), 3, 0))
    assert not list(readings_of((3, 4), (1, 4, 4), 3, 0))


def test_the_first_difference_along_an_axis() -> None:
    left = np.zeros((2, 6), np.float32)
    right = left.copy()
    right[1, 4] = 1e-3
    assert first_difference(left, right, 1, 0.0) == 4
    assert first_difference(left, right, 1, 1e-2) is None
    right[0, 2] = np.nan
    assert first_difference(left, right, 1, 1e-2) == 2
    assert first_difference(right, right, 1, 0.0) is None
