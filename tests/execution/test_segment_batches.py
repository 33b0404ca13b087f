"""Batches of rows: bounded, each row once, put back where it was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.execution.segment_batches import in_order, plan_batches

LENGTHS = st.lists(st.integers(0, 500), max_size=40)


@given(LENGTHS, st.integers(1, 2000), st.integers(0, 500))
def test_every_row_is_in_one_batch_and_no_batch_is_too_large(lengths, limit, per_batch):
    sizes = np.array(lengths, np.int64)
    batches = plan_batches(sizes, limit, per_batch)
    assert sorted(int(row) for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or sizes[rows].max() * len(rows) <= limit


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(1, 40), st.integers(0, 9))
def test_no_other_cut_of_the_sorted_rows_costs_less(lengths, limit, per_batch):
    ordered = sorted(lengths, reverse=True)

    def cost(groups):
        padded = [len(group) * max(group) for group in groups]
        allowed = all(p <= limit or len(g) == 1 for p, g in zip(padded, groups, strict=True))
        return sum(padded) + per_batch * len(groups) if allowed else np.inf

    cuts = itertools.product([False, True], repeat=len(ordered) - 1)
    best = min(cost(groups_of(ordered, cut)) for cut in cuts)
    sizes = np.array(lengths)
    assert cost([sizes[rows].tolist() for rows in plan_batches(sizes, limit, per_batch)]) == best


def groups_of(rows, cut):
    groups = [[rows[0]]]
    for row, split in zip(rows[1:], cut, strict=True):
        groups = [*groups, [row]] if split else [*groups[:-1], [*groups[-1], row]]
    return groups


def test_rows_of_about_the_same_length_are_together_the_longest_first():
    batches = plan_batches(np.array([2, 7, 4, 1, 4, 4]), 12, 2)
    assert [rows.tolist() for rows in batches] == [[1], [2, 4, 5], [0, 3]]


def test_no_rows_are_no_batches():
    assert plan_batches(np.zeros(0, np.int64), 10, 1) == []


@pytest.mark.parametrize(("dtype", "fill"), [(np.int64, -1), (np.float32, 0), (np.bool_, False)])
def test_rows_are_put_back_and_filled_up(dtype, fill):
    parts = [np.array([[1, 1, 1]], dtype), np.array([[1, 0], [0, 1]], dtype)]
    found = in_order(parts, [np.array([2]), np.array([1, 0])], 3, where="ids")
    expected = np.array([[0, 1, fill], [1, 0, fill], [1, 1, 1]], dtype)
    assert found.dtype == dtype
    assert np.array_equal(found, expected)


def test_another_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="'total' has the shape"):
        in_order([np.zeros(3)], [np.array([0, 1])], 2, where="total")
