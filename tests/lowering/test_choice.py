"""The choice of what stays in float32, on effects that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.interpret.propagated import Effects
from exporter.lowering.choice import choose, predicted


def effects(
    spread: list[list[float]],
    shifts: list[list[float]] | None = None,
    margins: list[float] | None = None,
) -> Effects:
    """Effects of layers a, b ..., one row per direction."""
    count = len(spread[0])
    return Effects(
        layers=tuple("abcdefgh"[:count]),
        spread=np.array(spread),
        shifts=np.array(shifts or []).reshape(-1, count),
        margins=np.array(margins or []),
    )


def test_as_much_is_gained_as_the_limit_allows():
    held = effects([[0.03, 0.0, 0.0], [0.0, 0.03, 0.0], [0.0, 0.0, 0.3]])
    found = choose([held], np.array([1.0, 2.0, 9.0]), 0.05)
    assert found.lowered == {0, 1}
    assert found.error <= 0.05


def test_errors_that_add_up_are_seen_together():
    """Apart, each is half of the limit; in the same direction, both are beyond it."""
    same = effects([[0.04, 0.04], [0.04, 0.04]])
    assert predicted([same], np.ones(2)).error == pytest.approx(0.08)
    assert choose([same], np.array([1.0, 2.0]), 0.06).lowered == {1}
    apart = effects([[0.04 * 2**0.5, 0.0], [0.0, 0.04 * 2**0.5]])
    assert choose([apart], np.array([1.0, 2.0]), 0.06).lowered == {0, 1}


def test_a_margin_that_a_layer_would_turn_keeps_it():
    held = effects([[1e-4, 1e-4]], shifts=[[0.5, 0.01]], margins=[0.2])
    assert choose([held], np.array([5.0, 1.0]), 1.0).lowered == {1}
    assert choose([held], np.array([5.0, 1.0]), 1.0, max_flips=1).lowered == {0, 1}


def test_shifts_that_cancel_do_not_excuse_one_another():
    held = effects([[1e-4, 1e-4]], shifts=[[0.5, -0.5]], margins=[0.2])
    assert choose([held], np.array([1.0, 1.0]), 1.0).lowered == frozenset()


def test_the_worst_case_counts():
    quiet, loud = effects([[1e-3, 1e-3]]), effects([[1e-3, 0.2]])
    assert choose([quiet], np.ones(2), 0.01).lowered == {0, 1}
    assert choose([quiet, loud], np.ones(2), 0.01).lowered == {0}


def test_what_overflows_or_gains_nothing_stays():
    held = effects([[1e-6, 1e-6, 1e-6]])
    found = choose([held], np.array([1.0, -1.0, 1.0]), 0.1, never={0})
    assert found.lowered == {2}


def test_a_layer_of_which_nothing_is_known_stays():
    held = effects([[1e-6, float("nan"), 1e-6]])
    assert choose([held], np.ones(3), 0.1).lowered == {0, 2}
    silent = effects([[float("nan")] * 3])
    assert choose([held, silent], np.ones(3), 0.1).lowered == frozenset()
