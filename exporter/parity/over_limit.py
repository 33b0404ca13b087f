"""How far a value is over its limit by itself: what culprits are ranked by."""

from __future__ import annotations

import math

from exporter.parity.measurement import Measurement

_ROUNDING = 24 * 2.0**-24
"""Relative error that the limit of an ordinary float32 op allows."""
_TINY = 2.0**-126


def over_limit(measured: Measurement | None, strain: float | None) -> float:
    """Error over limit; of a copy that changed bits, over what rounding would cost there.

    Infinite where nothing can be put into such a figure: another shape, NaN, integers.
    """
    if strain is not None:
        return strain
    exact = measured.direct if measured is not None and measured.kind == "exact" else None
    if exact is None or not exact.max_abs:
        return math.inf
    scale = max(abs(exact.worst_expected or 0.0), abs(exact.worst_actual or 0.0), _TINY)
    return max(1.0, exact.max_abs / (_ROUNDING * scale))


def culprit_rank(over: float, *, kernel: bool) -> tuple[bool, float]:
    """What the graph has wrong first, then by how many times a tap is over its limit."""
    return not kernel, over
