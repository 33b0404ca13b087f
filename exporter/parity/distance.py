"""One blocked pass over three float arrays: every distance, every scale, every count at once.

A verification reads gigabytes, so the arrays are walked in blocks that stay in the cache, and
nothing of the size of the tensor is allocated. Per block and quantity the work is one
subtraction, one maximum, one minimum and one sum of squares, all in float64:

    A, R  <- actual, reference       (widened to float64)
    A - R, A - T, R - T              (three differences)
    max, min, sum of squares         (of the three, and of T)

Whether everything is finite costs nothing: a finite sum of squares has only finite terms. Only
a block whose sum is not finite is looked at again, slowly, with counts and masks.

Blocks of the usual dtypes go through a compiled loop (``one_pass``), which reads each array once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.parity import one_pass
from exporter.parity.measurement import COUNTED, Distance

# Large enough that threads seldom wait for the interpreter, small enough for the cache.
BLOCK = 262_144
# BLAS libraries start threads for longer dot products, which costs more than it gives here and
# fights with the threads that the caller already has.
DOT_ROW = 8_192
# Outside of these bounds a sum of squares has lost digits to overflow or to denormals.
SAFE_SQUARES = (1e-250, 1e300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Everything that one walk over (truth, reference, actual) finds.

    ``counts`` of NaN and Inf have the names of the fields of a ``Measurement``; ``same_bits`` is
    None where the walk did not look at bits.
    """

    actual: Distance
    reference: Distance
    direct: Distance | None
    scale: float | None
    rms_scale: float | None
    compared: int
    counts: Mapping[str, Any]
    same_bits: bool | None


class _Running:
    """Maximum and norm of a stream of blocks."""

    __slots__ = ("at", "count", "norm", "peak", "squares")

    def __init__(self) -> None:
        self.peak, self.at, self.norm, self.squares, self.count = 0.0, -1, 0.0, 0.0, 0

    def add(self, block: np.ndarray, squares: float, where: int | np.ndarray) -> None:
        """Take in a finite 1-D float64 block; ``where`` is its offset, or every position."""
        high, low = float(np.maximum.reduce(block)), -float(np.minimum.reduce(block))
        peak = max(high, low)
        if peak > self.peak:
            first = min(
                int(block.argmax()) if high == peak else block.size,
                int(block.argmin()) if low == peak else block.size,
            )
            self.peak = peak
            self.at = where + first if isinstance(where, int) else int(where[first])
        self.count += block.size
        if SAFE_SQUARES[0] < squares < SAFE_SQUARES[1]:
            self.squares += squares
        elif math.isinf(peak):
            self.norm = math.inf
        elif peak > 0.0:
            # The quotient is at most 1, so neither overflow nor denormals can spoil its square.
            self.norm = math.hypot(self.norm, peak * math.sqrt(sum_of_squares(block / peak)))

    def take(self, count: int, squares: float, peak: float, at: int) -> None:
        """Take in what a compiled pass has found; ``squares`` is 0 or well inside of the range."""
        if peak > self.peak:
            self.peak, self.at = peak, at
        self.count += count
        self.squares += squares

    @property
    def rms(self) -> float | None:
        if not self.count:
            return None
        return math.hypot(math.sqrt(self.squares), self.norm) / math.sqrt(self.count)

    @property
    def max_abs(self) -> float | None:
        return self.peak if self.count else None


def sum_of_squares(block: np.ndarray) -> float:
    """Return the sum of squares of a contiguous 1-D float array, in rows of ``DOT_ROW``."""
    whole = block.size - block.size % DOT_ROW
    total = 0.0
    if whole:
        rows = block[:whole].reshape(-1, DOT_ROW)
        total = float(np.add.reduce(np.vecdot(rows, rows)))
    if whole < block.size:
        rest = block[whole:]
        total += float(np.dot(rest, rest))
    return total


def walk(arrays: Sequence[np.ndarray], size: int = BLOCK) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield ``(offset, 1-D blocks)`` over equally shaped arrays in C order, whatever the strides.

    Contiguous arrays are never copied; of others one block at a time is.
    """
    if all(a.flags.c_contiguous for a in arrays):
        flat = [a.reshape(-1) for a in arrays]
        for start in range(0, arrays[0].size, size):
            yield start, [a[start : start + size] for a in flat]
        return
    shape, total = arrays[0].shape, arrays[0].size
    row = total // shape[0] if shape[0] else 0
    if row > size:
        for i in range(shape[0]):
            for start, blocks in walk([a[i] for a in arrays], size):
                yield i * row + start, blocks
        return
    step = max(1, size // max(1, row))
    for i in range(0, shape[0] if total else 0, step):
        yield i * row, [np.ascontiguousarray(a[i : i + step]).reshape(-1) for a in arrays]


def distances(
    truth: np.ndarray, reference: np.ndarray, actual: np.ndarray, *, direct: bool = True
) -> Pass:
    """Measure three equally shaped float arrays against one another in one pass.

    Args:
        truth: float64 (another float dtype is widened), any strides, as are the others.
        reference: what float32 PyTorch computed.
        actual: what ONNX computed.
        direct: also the distance of the last two from each other; a fourth of the work.

    Buffers belong to the call, so that calls may run in threads (numpy releases the GIL).
    """
    size = min(BLOCK, max(1, truth.size))
    buffers: np.ndarray | None = None
    runs = [_Running() for _ in range(4)]  # actual, reference, direct, truth
    counts = np.zeros(len(COUNTED), dtype=np.int64)
    agreeing = 0
    compiled = truth.size >= one_pass.LEAST and not direct
    same: bool | None = True if compiled else None
    # Overflow and Inf - Inf are expected: they are what sends a block to the careful path.
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for offset, (t, r, a) in walk((truth, reference, actual), size):
            if compiled and one_pass.takes(t, r, a):
                figures = one_pass.compare(t, r, a)
                same = same and figures.same
                if _take(figures, t.size, offset, runs):
                    continue
            else:
                same = None
            if buffers is None:
                buffers = np.empty((4, size))
            wide_a, wide_r, apart, wide_t = buffers[:, : t.size]
            np.copyto(wide_a, a)
            np.copyto(wide_r, r)
            if t.dtype == np.float64:
                wide_t = t
            else:
                np.copyto(wide_t, t)
            if direct:
                np.subtract(wide_a, wide_r, out=apart)
            np.subtract(wide_a, wide_t, out=wide_a)
            np.subtract(wide_r, wide_t, out=wide_r)
            used = [(runs[0], wide_a), (runs[1], wide_r), (runs[3], wide_t)]
            if direct:
                used.append((runs[2], apart))
            squares = [sum_of_squares(block) for _, block in used]
            if math.isfinite(sum(squares)):
                for (run, block), square in zip(used, squares, strict=True):
                    run.add(block, square, offset)
            else:
                agreeing += _careful(t, r, a, offset, runs, counts)
    by_actual, by_reference, by_direct, by_truth = runs
    return Pass(
        actual=_distance(by_actual, truth, actual),
        reference=_distance(by_reference, truth, reference),
        direct=_distance(by_direct, reference, actual) if direct else None,
        scale=by_truth.max_abs,
        rms_scale=by_truth.rms,
        compared=by_actual.count + agreeing,
        counts=dict(zip(COUNTED, counts.tolist(), strict=True)),
        same_bits=same,
    )


def _take(figures: one_pass.PassFigures, count: int, offset: int, runs: list[_Running]) -> bool:
    """Add a block that a compiled pass has measured; False when that takes more care."""
    low, high = SAFE_SQUARES
    pairs = list(zip(figures.squares, figures.peaks, strict=True))
    if not figures.finite or not all(low < s < high or peak == 0.0 for s, peak in pairs):
        return False
    places = (*figures.at, 0)  # nobody asks where the truth is largest
    for run, (square, peak), at in zip((runs[0], runs[1], runs[3]), pairs, places, strict=True):
        run.take(count, square, peak, offset + at)
    return True


def _careful(
    t: np.ndarray,
    r: np.ndarray,
    a: np.ndarray,
    offset: int,
    runs: list[_Running],
    counts: np.ndarray,
) -> int:
    """Take in a block that may hold NaN or Inf; return how many infinities agree everywhere."""
    sides = [np.asarray(x, dtype=np.float64) for x in (t, r, a)]
    infinite = [np.isinf(x) for x in sides]
    # +1, -1 or 0: two sides agree on infinities where these are equal.
    signs = [np.where(inf, np.sign(x), 0.0) for inf, x in zip(infinite, sides, strict=True)]
    by_reference, by_actual = signs[1] != signs[0], signs[2] != signs[0]
    either = by_reference | by_actual
    missing = np.isnan(np.stack(sides))
    counts += [
        *(int(np.isnan(x).sum()) for x in sides),
        *(int(inf.sum()) for inf in infinite),
        int(either.sum()),
        int(by_reference.sum()),
        int(by_actual.sum()),
        int((missing.any(axis=0) & ~missing.all(axis=0)).sum()),
    ]
    finite_truth = np.isfinite(sides[0])
    finite = finite_truth & np.isfinite(sides[1]) & np.isfinite(sides[2])
    wide_t, wide_r, wide_a = (x[finite] for x in sides)
    differences = (wide_a - wide_t, wide_r - wide_t, wide_a - wide_r)
    if wide_t.size:
        where = np.flatnonzero(finite) + offset
        for run, block in zip(runs[:3], differences, strict=True):
            run.add(block, sum_of_squares(block), where)
    if finite_truth.any():
        scale = sides[0][finite_truth]
        runs[3].add(scale, sum_of_squares(scale), np.flatnonzero(finite_truth) + offset)
    return int((infinite[0] & ~either).sum())


def _distance(run: _Running, expected: np.ndarray, actual: np.ndarray) -> Distance:
    if run.at < 0:
        return Distance(elements=run.count, max_abs=run.max_abs, rms=run.rms)
    index = tuple(int(i) for i in np.unravel_index(run.at, expected.shape))
    return Distance(
        elements=run.count,
        max_abs=run.max_abs,
        rms=run.rms,
        worst_index=index,
        worst_expected=float(expected[index]),
        worst_actual=float(actual[index]),
    )
