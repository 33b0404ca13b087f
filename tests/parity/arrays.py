"""Hand-made arrays and measurements: a healthy tap that each test then breaks in one way."""

from __future__ import annotations

import numpy as np

from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import Verdict, judge

POLICY = Policy()


def healthy(
    shape: tuple[int, ...] = (20, 50), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (truth, reference, actual): both float32 sides about one rounding from float64."""
    random = np.random.default_rng(seed)
    truth = random.standard_normal(shape)
    reference = (truth * (1 + 5e-8 * random.standard_normal(shape))).astype(np.float32)
    actual = (truth * (1 + 5e-8 * random.standard_normal(shape))).astype(np.float32)
    return truth, reference, actual


def tap(
    truth: np.ndarray | None, reference: np.ndarray | None, actual: np.ndarray | None, **options
) -> Measurement:
    """Measure under a fixed name."""
    return measure("tap", truth=truth, reference=reference, actual=actual, **options)


def judged(
    truth: np.ndarray | None,
    reference: np.ndarray | None,
    actual: np.ndarray | None,
    policy: Policy = POLICY,
    *,
    empty_declared: bool = False,
    **options,
) -> Verdict:
    """Measure and judge."""
    return judge(tap(truth, reference, actual, **options), policy, empty_declared=empty_declared)
