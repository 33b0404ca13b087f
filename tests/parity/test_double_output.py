"""A double whose digits are float32's: its error is not that of float64, to be scaled up."""

from __future__ import annotations

import numpy as np

from exporter.parity.compare import measure
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy, limit
from exporter.parity.verdict import judge


def test_a_double_that_float32_has_computed() -> None:
    truth = np.random.default_rng(0).standard_normal((8, 64)) / 3
    computed = truth.astype(np.float32).astype(np.float64)
    wrong = computed * (1 + 1e-4)
    found = measure("y", truth=truth, reference=computed, actual=computed, role="output")
    assert limit(found, Policy()).max_abs < 1e-5
    assert judge(found, Policy()).status is Status.PASS
    found = measure("y", truth=truth, reference=computed, actual=wrong, role="output")
    assert judge(found, Policy()).status is Status.FAIL


def test_a_double_that_float64_has_computed_may_be_float32() -> None:
    truth = np.random.default_rng(0).standard_normal((8, 64)) / 3
    actual = truth.astype(np.float32).astype(np.float64)
    found = measure("y", truth=truth, reference=truth * (1 + 2e-16), actual=actual)
    assert judge(found, Policy()).status is Status.PASS
