"""What confirms a choice is not what the choice was made on."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exporter.core.tensors import Case
from exporter.flows import lower_report
from exporter.lowering.confirm import by_themselves, moved_cases
from exporter.lowering.outcome import Outcome
from exporter.lowering.rounds import Wanted
from exporter.parity.status import Status

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


def judged(**changed: Any) -> Any:
    """A report of ``verify``: one layer that is right, tokens that turn, or what is changed."""
    tap = SimpleNamespace(local_verdict=SimpleNamespace(verdict=changed.get("tap", "pass")))
    layers = SimpleNamespace(
        expected="captured",
        verdict="pass",
        compared=1,
        layers=[SimpleNamespace(taps=[tap])] if changed.get("walked", True) else [],
    )
    eager = SimpleNamespace(
        expected="eager", verdict=changed.get("eager", "pass"), compared=None, layers=[]
    )
    given = SimpleNamespace(expected="captured", verdict="fail", compared=None, layers=[])
    output = SimpleNamespace(measurement={"name": "tokens", **changed.get("output", {})})
    checks = [
        SimpleNamespace(verdict=verdict, required=True) for verdict in changed.get("also", ())
    ]
    return SimpleNamespace(links=[eager, layers, given], outputs=[output], checks=checks)


def test_decisions_that_turn_are_not_asked_of_verify():
    assert by_themselves(judged()) is Status.PASS


@pytest.mark.parametrize(
    "changed",
    [
        {"tap": "fail"},
        {"eager": "fail"},  # the file is what was captured, and that is not the module
        {"output": {"problem": "missing in ONNX"}},  # onnxruntime stops at some length
        {"output": {"problem": "shape change"}},
        {"output": {"nan_mismatch": 1}},
        {"output": {"inf_mismatch_actual": 1}},
        {"also": ["fail"]},
    ],
)
def test_what_is_wrong_otherwise_is_no_pass(changed: dict[str, Any]):
    assert by_themselves(judged(**changed)) is Status.FAIL


def test_a_capture_that_is_ambiguous_is_no_pass():
    assert by_themselves(judged(eager="ambiguous")) is Status.AMBIGUOUS
    assert by_themselves(judged(tap="ambiguous")) is Status.NOT_RUN


def test_a_file_of_which_no_layer_was_walked_has_shown_nothing():
    assert by_themselves(judged(walked=False)) is Status.NOT_RUN
