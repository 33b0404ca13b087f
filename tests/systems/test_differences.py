"""Why tokens differ: ties within rounding, faults behind ties, and what no choice explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporter.config.driver import Ctc
from exporter.drivers import Decider, ctc
from exporter.drivers.graph import Outcome
from exporter.parity.tolerance import Policy
from exporter.systems.differences import Sides, explain_difference, first_difference
from tests.support.graphs import graph, spec

CONFIG = Ctc.model_validate({"kind": "ctc", "scores": "scores"})
TRUTH = np.log(
    np.array([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [0.5, 0.4, 0.1]], np.float64)
)
NOISE = 3e-7


def side(scores: np.ndarray):
    made = graph("encoder", [spec("x", "float32", 1)], ["scores"], lambda x: scores[None])
    return {"encoder": made}


def drive(graphs, decider: Decider) -> Outcome:
    return ctc.drive(CONFIG, graphs, {"x": np.zeros(1, np.float32)}, decider)


def explained(onnx: np.ndarray):
    """Float32 is a little off float64, as it is; the third frame is a tie but for that."""
    narrow = TRUTH.copy()
    narrow[2, 1] += NOISE
    decider = Decider()
    expected = drive(side(narrow.astype(np.float32)), decider)
    assert expected.tokens == (1, 1)
    sides = Sides(float32=side(narrow.astype(np.float32)), float64=side(TRUTH), onnx=side(onnx))
    return explain_difference(drive, sides, expected, decider.made, Policy())


def changed(*changes: tuple[int, int, float]) -> np.ndarray:
    found = TRUTH.copy()
    for frame, token, by in changes:
        found[frame, token] += by
    return found.astype(np.float32)


def test_a_tie_is_one():
    found = explained(changed((2, 2, NOISE)))
    assert found.ties_only
    (only,) = found.differences
    assert (only.at, only.expected, only.actual, only.tie) == (2, [1], [2], True)
    assert only.margin < only.noise


def test_a_fault_is_none():
    found = explained(changed((0, 2, 0.8)))
    assert not found.ties_only
    (only,) = found.differences
    assert (only.at, only.tie) == (0, False)
    assert only.margin == pytest.approx(np.log(2))
    assert "beyond" in only.reason


def test_a_tie_excuses_nothing_behind_it():
    found = explained(changed((2, 2, NOISE), (3, 2, 1.8)))
    assert not found.ties_only
    assert [held.tie for held in found.differences] == [True, False]
    assert [held.at for held in found.differences] == [2, 3]


def test_a_small_fault_on_a_clear_choice_is_no_tie():
    """Just enough to turn 0.5 against 0.1: far beyond what float32 costs."""
    found = explained(changed((3, 2, 1.62)))
    assert [held.tie for held in found.differences] == [False]


def test_other_tokens_without_another_choice_are_no_tie():
    decider = Decider()
    expected = drive(side(TRUTH), decider)

    def other(graphs, led):
        found = drive(graphs, led)
        return replace(found, tokens=(7,))

    same = Sides(float32=side(TRUTH), float64=side(TRUTH), onnx=side(TRUTH))
    found = explain_difference(other, same, expected, decider.made, Policy())
    assert not found.ties_only and not found.differences


@pytest.mark.parametrize(
    ("left", "right", "at"),
    [
        ([(1,), (2,)], [(1,), (2,)], None),
        ([(1,), (2,)], [(1,), (3,)], 1),
        ([(1,)], [(1,), (3,)], 1),
        ([], [(1,)], 0),
    ],
)
def test_the_first_choice_that_differs(left, right, at):
    assert first_difference(left, right) == at
