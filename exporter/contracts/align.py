"""Which part of a layer's result belongs to the first ``n`` steps of the input, or to one row.

A layer's number of steps follows a line, L = a T + b, learned from runs of two lengths:

    input   0 1 2 3 4 5 6 7 | 8 9 ..      cut at n = 8
    layer    0   1   2   3  | 4 ..        a = 1/2, the past is [0, 4)

Only [0, min(L(n), a n)) is compared: an inner left pad (b > 0) makes a layer longer than its
input, and a transposed convolution emits a tail that the next samples still add to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Law:
    """How a result's axes follow the length of the input.

    Attributes:
        axes: position -> steps per input step.
    """

    axes: dict[int, Fraction]

    @property
    def follows(self) -> bool:
        """False for a result without a time axis."""
        return bool(self.axes)

    @property
    def main(self) -> tuple[int, Fraction]:
        """Position and rate of the first axis that follows the input."""
        return next(iter(self.axes.items()))

    def past(self, n: int, length: Shape) -> tuple[slice, ...]:
        """Index of what belongs to the first ``n`` input steps.

        Args:
            n: cut, in input steps.
            length: shape of the result on those ``n`` steps alone.
        """
        index = [slice(None)] * len(length)
        for position, rate in self.axes.items():
            index[position] = slice(0, max(0, min(length[position], int(rate * max(n, 0)))))
        return tuple(index)


def learn_law(lengths: Sequence[int], shapes: Sequence[Shape]) -> Law | None:
    """Learn how shapes follow lengths; ``None`` when ranks differ or an axis shrinks.

    Args:
        lengths: two or more sizes of the input, different.
        shapes: the result's shape at each.
    """
    if len({len(shape) for shape in shapes}) != 1:
        return None
    axes: dict[int, Fraction] = {}
    low, high = int(np.argmin(lengths)), int(np.argmax(lengths))
    for position in range(len(shapes[0])):
        grown = shapes[high][position] - shapes[low][position]
        if grown < 0:
            return None
        if grown:
            axes[position] = _rate(grown, lengths[high] - lengths[low])
    return Law(axes)


def _rate(grown: int, steps: int) -> Fraction:
    """The simplest rate that explains ``grown`` more results for ``steps`` more inputs.

    Rounding in strides moves either count by less than one, so any fraction between
    (grown - 1) / steps and (grown + 1) / steps would do; ratios of models are simple ones.
    """
    exact = Fraction(grown, steps)
    if exact.denominator == 1 or exact.numerator == 1:
        return exact
    return _simplest(Fraction(max(grown - 1, 0), steps), Fraction(grown + 1, steps))


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction with the smallest denominator strictly between two others."""
    whole = low.numerator // low.denominator
    if whole + 1 < high:
        return Fraction(whole + 1)
    if low == whole:
        # low itself is excluded: look for whole + 1/k below high.
        rest = high - whole
        return whole + Fraction(1, rest.denominator // rest.numerator + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))


def row_of(batch: Shape, alone: Shape, rows: int, row: int) -> tuple[slice, ...] | None:
    """Index into a batch's result of what row ``row`` gives alone; valid steps only.

    The batch axis may be merged with others: [B * H, T, T] and [B * T, C] are understood.
    ``None`` when no axis can be the batch.

    Args:
        batch: shape of the result on the whole batch.
        alone: shape of the result on this row alone, without padding.
        rows: size of the batch.
        row: which row.
    """
    if len(batch) != len(alone):
        return None
    positions = [k for k in range(len(batch)) if batch[k] == rows and alone[k] == 1]
    positions += [
        k
        for k in range(len(batch))
        if batch[k] % rows == 0 and 0 < alone[k] <= batch[k] // rows and k not in positions
    ]
    for position in positions:
        step = batch[position] // rows
        index = [slice(0, size) for size in alone]
        index[position] = slice(row * step, row * step + alone[position])
        if all(a <= b for k, (a, b) in enumerate(zip(alone, batch, strict=True)) if k != position):
            return tuple(index)
    return None


def first_difference(left: np.ndarray, right: np.ndarray, axis: int, limit: float) -> int | None:
    """First index along ``axis`` where two arrays are further apart than ``limit``."""
    size = min(left.shape[axis], right.shape[axis])
    cut = [slice(None)] * left.ndim
    cut[axis] = slice(0, size)
    other = tuple(k for k in range(left.ndim) if k != axis)
    a, b = left[tuple(cut)], right[tuple(cut)]
    with np.errstate(invalid="ignore", over="ignore"):
        same = (a == b) | ((a != a) & (b != b))
        if a.dtype.kind not in "biu" and limit > 0.0:
            same |= np.abs(a.astype(np.float64) - b.astype(np.float64)) <= limit
    bad = np.flatnonzero(~same.all(axis=other))
    return int(bad[0]) if bad.size else None
