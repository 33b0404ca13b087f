"""Single passes over float arrays: what ``distance`` measures, at the speed of memory.

numpy needs a pass over a buffer for each difference, each maximum, each sum. A compiled loop
(``compiled_loops``) reads every array once and keeps all of that in registers:

    a - t, r - t           in float64, each rounded once, as numpy rounds them
    largest magnitudes     compared as bits, sign cleared: exact
    sums of squares        the only figures whose last digits depend on the order
    bits of r xor a        zero when the two are the same array

The bits of a float without its sign, read as an integer, are ordered as the magnitudes are
(IEEE 754, section 5.10), NaN above Inf above everything else, so that one comparison of integers
finds the largest magnitude and, at the end, whether anything was not finite.

numba is imported when the first large array is measured, which takes longer than numpy needs for
all the small ones of a tiny model; its compiled code is kept beside the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np

from exporter.core.extras import is_there

LEAST = 1 << 14
"""Elements of an array that is worth the loops; a smaller one is numpy's."""


@dataclass(frozen=True, slots=True)
class PassFigures:
    """What one pass over ``(truth, reference, actual)`` finds.

    Attributes:
        squares: sums of squares of actual - truth, reference - truth, and truth.
        peaks: the largest magnitude of each; only where ``finite``.
        at: first position of the first two peaks; -1 where the peak is 0.
        finite: False when any of the three arrays holds NaN or Inf, or a difference overflows.
        same: reference and actual have the same bits.
    """

    squares: tuple[float, float, float]
    peaks: tuple[float, float, float]
    at: tuple[int, int]
    finite: bool
    same: bool


def takes(truth: np.ndarray, reference: np.ndarray, actual: np.ndarray) -> bool:
    """True for arrays that :func:`compare` is compiled for: float64, float32, float32."""
    return truth.dtype == np.float64 and truth.flags.carray and takes_pair(reference, actual)


def takes_pair(reference: np.ndarray, actual: np.ndarray) -> bool:
    """True for two aligned float32 arrays in C order; numba wants them writable as well.

    False for all where numba is not installed: numpy then finds the same, in more passes.
    """
    return (
        has_compiler()
        and reference.dtype == np.float32
        and actual.dtype == np.float32
        and reference.flags.carray
        and actual.flags.carray
    )


def compare(truth: np.ndarray, reference: np.ndarray, actual: np.ndarray) -> PassFigures:
    """Measure three equally long 1-D arrays that :func:`takes` accepts. Releases the GIL."""
    floats, integers = np.empty(6), np.empty(4, np.int64)
    _loops().compare(truth, reference, actual, floats, integers)
    square_a, square_r, square_t, peak_a, peak_r, peak_t = floats.tolist()
    at_a, at_r, infinite, different = integers.tolist()
    return PassFigures(
        squares=(square_a, square_r, square_t),
        peaks=(peak_a, peak_r, peak_t),
        at=(at_a, at_r),
        finite=not infinite,
        same=not different,
    )


def compare_pair(reference: np.ndarray, actual: np.ndarray) -> tuple[bool, bool]:
    """``(same bits, all finite)`` of two 1-D arrays that :func:`takes_pair` accepts.

    Stops soon after the first difference; the second figure is then about what was read.
    """
    flags = int(_loops().compare_pair(reference, actual))
    return not flags & 1, not flags & 2


@cache
def has_compiler() -> bool:
    """True where numba is installed."""
    return is_there("numba")


@cache
def _loops() -> ModuleType:
    from exporter.parity import compiled_loops

    return compiled_loops
