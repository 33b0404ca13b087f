"""What confirms a choice is not what the choice was made on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from exporter.core.tensors import Case
from exporter.flows import lower_report
from exporter.lowering.confirm import moved_cases
from exporter.lowering.outcome import Outcome
from exporter.lowering.rounds import Wanted

TOKENS = np.arange(5)


def test_moved_cases_are_other_cases():
    first = Case(name="a", inputs={"x": np.ones((2, 3), np.float32), "n": TOKENS}, origin="drawn")
    found = moved_cases([first], 2)
    assert [case.name for case in found] == ["a, moved 1", "a, moved 2"]
    arrays = [case.inputs["x"] for case in (first, *found)]
    assert all(np.abs(a - b).max() > 0 for a, b in pairwise(arrays))


def test_integers_alone_cannot_be_moved_and_confirm_nothing():
    """The same case again is no other one; and of no case nothing is known."""
    assert moved_cases([Case(name="a", inputs={"n": TOKENS}, origin="drawn")], 2) == []
    assert not Wanted(to="int8", max_error=1.0).met_by([])


def test_a_case_that_shows_nothing_is_no_small_error():
    good, blind = (
        Outcome(error=error, flips=0, doubtful=0, turned=0, decisions=0) for error in (0.01, None)
    )
    assert lower_report._error([good, good]) == 0.01
    assert lower_report._error([good, blind]) is None
    assert lower_report._in_words([blind]) == lower_report._in_words([]) == "nothing"
