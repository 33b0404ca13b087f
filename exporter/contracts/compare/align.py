"""Which part of a layer's result belongs to the first ``n`` steps of the input, or to one row.

A layer's number of steps follows a line, L = a T + b, learned from runs of two lengths:

    input   0 1 2 3 4 5 6 7 | 8 9 ..      cut at n = 8
    layer    0   1   2   3  | 4 ..        a = 1/2, the past is [0, 4)

Only [0, min(L(n), a n)) is compared: an inner left pad (b > 0) makes a layer longer than its
input, and a transposed convolution emits a tail that the next samples still add to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def readings_of(batch: Shape, alone: Shape, rows: int, row: int) -> Iterator[tuple[slice, ...]]:
    """Where in a batch's result what row ``row`` gives alone may lie; valid steps only.

    The batch axis may be merged with others, row by row ([B * H, T, T], [B * T, C]) or the other
    way round ([H * B, C], as ``torch.cat([x] * H)`` makes it). Nothing when no axis can be it.

    Args:
        batch: shape of the result on the whole batch.
        alone: shape of the result on this row alone, without padding.
        rows: size of the batch.
        row: which row.
    """
    if len(batch) != len(alone):
        return
    positions = [k for k in range(len(batch)) if batch[k] == rows and alone[k] == 1]
    positions += [
        k
        for k in range(len(batch))
        if batch[k] % rows == 0 and 0 < alone[k] <= batch[k] // rows and k not in positions
    ]
    for position in positions:
        step = batch[position] // rows
        if any(a > b for k, (a, b) in enumerate(zip(alone, batch, strict=True)) if k != position):
            continue
        index = [slice(0, size) for size in alone]
        index[position] = slice(row * step, row * step + alone[position])
        yield tuple(index)
        if step > 1 and alone[position] == step:
            index[position] = slice(row, None, rows)
            yield tuple(index)


def reversals(value: np.ndarray, rows: int, position: int | None) -> Iterator[np.ndarray]:
    """``value`` with its rows in reversed order, in each way in which rows may lie in it.

    Args:
        rows: size of the batch.
        position: of the batch axis, where it is known; else every axis that holds a multiple of
            ``rows`` is tried, and a result in which no axis does is as it is.
    """
    if position is not None:
        yield np.flip(value, axis=position)
        return
    axes = [k for k, size in enumerate(value.shape) if size and size % rows == 0]
    for axis in axes:
        many = value.shape[axis] // rows
        for split, at in (((rows, many), axis), ((many, rows), axis + 1))[: 1 + (many > 1)]:
            shape = (*value.shape[:axis], *split, *value.shape[axis + 1 :])
            yield np.flip(value.reshape(shape), axis=at).reshape(value.shape)
    yield value


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
