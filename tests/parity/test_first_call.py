"""Inside of the first call of a stream a value may have nothing; nowhere else, and no output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporter.core.tensors import COMPARED, Case, PlannedTap, Tap
from exporter.parity.compare import measure
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge_tap

NOTHING = np.zeros((2, 0, 3), np.float32)
TAP = Tap(name="keys", module="a", module_class="A", op="aten.cat.default", source="")
PLANNED = PlannedTap(tap=TAP, onnx_name="keys", fate=COMPARED)
ALONE = Case(name="c", inputs={}, origin="drawn")
STREAM = replace(ALONE, later=({},))


def judged(case: Case, tap: PlannedTap = PLANNED, actual: np.ndarray = NOTHING) -> Status:
    found = measure("keys", truth=NOTHING, reference=NOTHING, actual=actual, role="inner")
    return judge_tap(found, tap, case, Policy()).status


def test_a_cache_that_begins_with_nothing_is_counted_apart():
    assert judged(STREAM) is Status.EMPTY_AS_DECLARED


@pytest.mark.parametrize("case", [ALONE, replace(ALONE, call=1)])
def test_in_one_call_and_in_later_ones_nothing_is_a_failure(case):
    assert judged(case) is Status.FAIL


def test_an_output_and_another_shape_fail_in_the_first_call_too():
    assert judged(STREAM, replace(PLANNED, output=True)) is Status.FAIL
    assert judged(STREAM, actual=np.zeros((2, 1, 3), np.float32)) is Status.FAIL
