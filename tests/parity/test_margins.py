"""Margins: how close float64 was to the other decision."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.parity.margins import choice_margins, differing, threshold_margins


def test_positions_that_differ_come_in_c_order():
    reference = np.zeros((2, 3), int)
    actual = np.array([[0, 1, 0], [2, 0, 0]])
    assert differing(reference, actual).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="shapes differ"):
        differing(reference, reference.T)


def test_the_margin_of_a_choice_is_the_gap_to_the_worse_of_both():
    logits = np.array([[3.0, 2.5, 0.0], [1.0, 0.5, 0.0]])
    margins = choice_margins(logits, np.array([0, 0]), np.array([1, 0]))
    assert margins.tolist() == [0.5]


def test_two_choices_near_each_other_and_far_from_the_best_have_a_large_margin():
    logits = np.array([[9.0, 1.0, 1.0]])
    assert choice_margins(logits, np.array([1]), np.array([2])).tolist() == [8.0]


def test_a_choice_that_does_not_exist_has_an_infinite_margin():
    logits = np.array([[1.0, 1.0]])
    for choice in (-1, 2):
        assert choice_margins(logits, np.array([0]), np.array([choice])).tolist() == [np.inf]


def test_a_nan_logit_gives_a_margin_that_is_never_below_noise():
    margins = choice_margins(np.array([[np.nan, 1.0]]), np.array([0]), np.array([1]))
    assert not (margins < 1e9).any()


def test_equal_choices_have_no_margins():
    logits = np.zeros((4, 3))
    assert choice_margins(logits, np.zeros(4, int), np.zeros(4, int)).shape == (0,)


def test_threshold_margins_are_distances_to_the_threshold():
    values = np.array([0.4, 0.5001, 0.9])
    margins = threshold_margins(values, 0.5, values > 0.5, values > 0.6)
    assert margins == pytest.approx([1e-4])
    with pytest.raises(ValueError, match="do not fit"):
        threshold_margins(values[:2], 0.5, values > 0.5, values > 0.5)
