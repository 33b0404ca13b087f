"""Angles beside the branch cut of ``atan2(y, x)``: there pi and -pi are the same direction.

Where x is negative and y is nothing but rounding, as at the ends of most spectra, the sign of y
picks one of the two, and a full turn lies between two right answers. Such angles are put on
float64's side before anything is measured; how many were on another side than PyTorch's is kept.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from exporter.execution.tap_values import TapValues
from exporter.interpret.margins import Margin


def on_one_side(values: TapValues, factor: float, *, free: bool) -> tuple[TapValues, int]:
    """The same tap without full turns that rounding made, and how many angles lie on the other
    side of the cut in ONNX than in PyTorch.

    Args:
        factor: times the distance of float32 PyTorch to float64 in y is rounding.
        free: of the free run; else of what the piece alone computes.
    """
    margin, truth, actual = (
        (values.margin, values.truth_free, values.free)
        if free
        else (values.margin_local, values.truth_local, values.forced)
    )
    shape = values.reference.shape
    if margin is None or truth is None or actual is None or actual.shape != shape:
        return values, 0
    margins: Margin = margin(actual)
    # Written so that NaN, where no rounding turns an angle, is not below.
    beside = np.broadcast_to(margins.distance, shape) <= factor * margins.noise
    reference, other = (_turned(each, truth, beside) for each in (values.reference, actual))
    crossed = (reference != values.reference) != (other != actual)
    ends = {"free": other} if free else {"forced": other}
    return replace(values, reference=reference, **ends), int(crossed.sum())


def _turned(angles: np.ndarray, truth: np.ndarray, beside: np.ndarray) -> np.ndarray:
    apart = angles.astype(np.float64) - truth
    turned = beside & (np.abs(apart) > math.pi)
    back = angles - np.copysign(2 * math.pi, apart)
    return np.where(turned, back, angles).astype(angles.dtype)
