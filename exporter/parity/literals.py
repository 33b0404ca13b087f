"""Constants that stand for "not here" beside computed values: -1e9 in masked places of scores.

Such a constant is the largest magnitude of its tensor, and all limits follow from that: beside
-1e9 an error of 1000 would pass. Where PyTorch and ONNX hold the same bits of one constant and
float64 holds one value, nothing was rounded there and nothing is to be judged; the scale is that
of what is left.
"""

from __future__ import annotations

import numpy as np

_FAR = 100.0
"""How many times the largest of the rest a constant has to be."""
_MOST = 3
_HIGHEST = np.finfo(np.float32).max

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def without_literals(
    truth: np.ndarray, reference: np.ndarray, actual: np.ndarray, scale: float | None
) -> Arrays | None:
    """The three arrays with 0 for constants that are far above the rest; None where none are.

    Args:
        scale: largest magnitude of the finite truth, where it is known.
    """
    if not scale or not _written(scale) or truth.dtype.kind != "f" or reference.dtype.kind != "f":
        return None
    size = np.where(np.isfinite(reference), np.abs(reference), 0)
    peak = float(size.max(initial=0.0))
    aside = np.zeros(reference.shape, dtype=bool)
    for _ in range(_MOST):
        at = np.unravel_index(int(size.argmax()), size.shape)
        value, wide = reference[at], truth[at]
        here = (reference == value) & ~aside
        same = (actual[here] == value).all() and (truth[here] == wide).all()
        if not same or not _stands_for(value, wide):
            return None
        aside |= here
        size[here] = 0
        rest = float(size.max(initial=0.0))
        if 0.0 < rest * _FAR < peak:
            zero = [np.where(aside, array.dtype.type(0), array) for array in (reference, actual)]
            return np.where(aside, 0.0, truth), zero[0], zero[1]
        if not rest:
            return None
    return None


def _stands_for(value: np.floating, wide: np.floating) -> bool:
    """True for one number in two precisions, and for the ends of both (``finfo(x.dtype).min``)."""
    if not np.isfinite(wide) or np.sign(value) != np.sign(wide):
        return False
    ends = abs(value) == np.finfo(value.dtype).max and abs(wide) == np.finfo(wide.dtype).max
    with np.errstate(over="ignore"):
        return bool(ends or value.dtype.type(wide) == value)


def _written(scale: float) -> bool:
    """True for a number that somebody wrote: few decimal digits, or one that float32 holds."""
    short = float(f"{scale:.6g}") == scale
    return short or scale > float(_HIGHEST) or float(np.float32(scale)) == scale
