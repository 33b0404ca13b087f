"""Combine measurements: slices of one tensor, and the same tap on several cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from exporter.parity.measurement import COUNTED, Distance, Index, Measurement


def accumulate(partials: Sequence[Measurement], *, axis: int = 0) -> Measurement:
    """Join the measurements of consecutive slices of one tensor into that of the whole.

    Args:
        partials: slices along ``axis``, in order, without gaps, all of one tap.
        axis: the axis along which the tensor was cut, not negative.

    Cosine and quantiles cannot be joined and come back as ``None``, unless there is one slice
    only. A slice with a ``problem`` is the whole's problem.

    Raises:
        ValueError: no slices, or slices of different taps, kinds or roles.
    """
    if not partials:
        raise ValueError("no slices to accumulate")
    first = partials[0]
    if len(partials) == 1:
        return first
    if len({(p.name, p.role) for p in partials}) > 1:
        raise ValueError(f"slices of different taps: {sorted({p.name for p in partials})}")
    broken = next((p for p in partials if p.problem), None)
    if broken is not None:
        return broken
    if len({(p.kind, p.dtype_expected, p.dtype_actual) for p in partials}) > 1:
        raise ValueError(f"slices of {first.name} differ in kind or dtype")
    offsets, total = [], 0
    for p in partials:
        if p.shape_expected is None or len(p.shape_expected) <= axis:
            raise ValueError(f"a slice of {first.name} has no axis {axis}")
        offsets.append(total)
        total += p.shape_expected[axis]

    def moved(index: Index | None, by: int) -> Index | None:
        return None if index is None else (*index[:axis], index[axis] + by, *index[axis + 1 :])

    def whole(shape: Index | None) -> Index | None:
        return None if shape is None else (*shape[:axis], total, *shape[axis + 1 :])

    def side(key: str) -> Distance | None:
        parts: list[Distance | None] = [getattr(p, key) for p in partials]
        present = [p for p in parts if p is not None]
        if len(present) < len(parts):
            return None
        peaks = [-1.0 if d.max_abs is None else d.max_abs for d in present]
        at = peaks.index(max(peaks))
        # In a tensor cut along a later axis, the first worst position in C order may be in
        # another slice than the first one that reaches the maximum: any of them is a worst one.
        count = sum(d.elements for d in present)
        return Distance(
            elements=count,
            max_abs=present[at].max_abs,
            rms=_joined_rms([(d.rms, d.elements) for d in present]),
            worst_index=moved(present[at].worst_index, offsets[at]),
            worst_expected=present[at].worst_expected,
            worst_actual=present[at].worst_actual,
        )

    scales = [p.scale for p in partials if p.scale is not None]
    differing = [i for i, p in enumerate(partials) if p.mismatches]
    counts = {key: _total([getattr(p, key) for p in partials]) for key in (*COUNTED, "mismatches")}
    return replace(
        first,
        shape_expected=whole(first.shape_expected),
        shape_actual=whole(first.shape_actual),
        elements=sum(p.elements for p in partials),
        compared=sum(p.compared for p in partials),
        scale=max(scales, default=None),
        rms_scale=_joined_rms(
            [(p.rms_scale, p.elements - (p.nan_truth or 0) - (p.inf_truth or 0)) for p in partials]
        ),
        actual=side("actual"),
        reference=side("reference"),
        direct=side("direct"),
        first_mismatch=(
            moved(partials[differing[0]].first_mismatch, offsets[differing[0]])
            if differing
            else None
        ),
        bitwise_equal=(
            None
            if any(p.bitwise_equal is None for p in partials)
            else all(p.bitwise_equal for p in partials)
        ),
        cosine=None,
        quantiles=None,
        **counts,
    )


def worse(a: Measurement, b: Measurement) -> Measurement:
    """Return the worse of two measurements of one tap, ``a`` when neither is.

    Order: a problem; NaN; infinities that do not agree; discrete mismatches; then the error
    against what float32 itself costs, so that a loud case does not hide a quiet wrong one.
    """
    return b if _badness(b) > _badness(a) else a


def _badness(m: Measurement) -> tuple[float, ...]:
    return (
        float(m.problem is not None),
        float((m.nan_truth or 0) + (m.nan_expected or 0) + (m.nan_actual or 0)),
        float(m.inf_mismatch or 0),
        float(m.mismatches or 0),
        _strain(m),
    )


def _strain(m: Measurement) -> float:
    """Error over (float32's own error + one float32 rounding of the tensor's scale)."""
    if m.actual is None:
        distance = m.direct.max_abs if m.direct is not None else None
        return distance or 0.0
    own = m.reference or Distance(elements=0)
    pairs = (
        (m.actual.max_abs, own.max_abs, m.scale),
        (m.actual.rms, own.rms, m.rms_scale),
    )
    strains = []
    for error, reference, scale in pairs:
        if error:
            cost = (reference or 0.0) + (scale or 0.0) * 2.0**-24
            strains.append(error / cost if cost else math.inf)
    return max(strains, default=0.0)


def _joined_rms(parts: Sequence[tuple[float | None, int]]) -> float | None:
    counted = [(rms, count) for rms, count in parts if rms is not None and count]
    total = sum(count for _, count in counted)
    if not total:
        return None
    return math.hypot(*(rms * math.sqrt(count / total) for rms, count in counted))


def _total(counts: Sequence[int | None]) -> int | None:
    return None if any(c is None for c in counts) else sum(c or 0 for c in counts)
