"""Decide: a measurement and a policy become a status, who is wrong, and a reason.

A pass is earned. The order of the checks is the order in which one would make the next
meaningless: what could not be compared, then what is not a number, then what is too far.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from exporter.core.tensors import Case, PlannedTap
from exporter.parity.coarse_formats import allowed, visible
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, Who
from exporter.parity.tolerance import FORMATS, Limit, Policy, limit, too_coarse
from exporter.parity.verdict_record import Verdict

# Precisions whose file may hold inner values of another dtype than PyTorch's.
_STORED_PRECISIONS = frozenset({"float16", "bfloat16"})


EQUAL_VALUES = "equal values: which comes first is not defined"
PAIRS = "complex values, compared as pairs of real and imaginary part"


def judge(
    measurement: Measurement,
    policy: Policy,
    *,
    empty_declared: bool = False,
    layer: str = "",
) -> Verdict:
    """Judge one tap.

    Args:
        measurement: what :func:`exporter.parity.compare.measure` returned, or a saved one.
        policy: how limits are derived.
        empty_declared: the case declares that this tap holds no elements.
        layer: module path, for overrides that name a layer.
    """
    verdict = _judge(measurement, policy, empty_declared, layer)
    if measurement.shape_stored is None:
        return verdict
    reshaped = f"the file holds it as {measurement.shape_stored}, compared after reshaping"
    return replace(verdict, reason=f"{verdict.reason}; {reshaped}")


def judge_tap(measured: Measurement, tap: PlannedTap, case: Case, policy: Policy) -> Verdict:
    """Judge what was measured at a tap; it may hold no element where that is declared.

    Inside of the first of several calls it may, too: a stream begins with nothing behind it. The
    calls that follow hold it to having something.
    """
    declared = case.expect_empty
    inside = bool(declared) or tap.tap.empty or bool(case.later)
    empty = tap.onnx_name in declared if tap.output else inside
    return judge(measured, policy, empty_declared=empty, layer=tap.tap.module)


def _judge(m: Measurement, policy: Policy, empty_declared: bool, layer: str) -> Verdict:
    broken = _structure(m, policy) or _emptiness(m, empty_declared) or _finiteness(m)
    if broken is not None:
        return broken
    if m.kind == "discrete":
        return allowed(too_coarse(m, policy), policy, judge_discrete(m, None, None))
    verdict = _judge_exact(m, policy) if m.kind == "exact" else _judge_distance(m, policy, layer)
    return allowed(too_coarse(m, policy), policy, visible(m, verdict))


def judge_discrete(
    measurement: Measurement,
    margins: np.ndarray | None,
    noise: float | np.ndarray | None,
    *,
    ties: bool = False,
    of: str = "rounding noise",
) -> Verdict:
    """Judge a discrete tap: equal passes, unequal is ambiguous or fails, never "close".

    Args:
        measurement: of kind ``discrete``.
        margins: [N] float64, for each of the N differing positions how far the float64 run is
            from deciding otherwise; ``None`` when nothing can say.
        noise: rounding noise of what the decision was made on, one number or [N].
        ties: between equal values (a margin of exactly 0) either decision is right.
        of: what the noise is, in words.

    Ambiguous needs a margin below the noise, or a tie, at EVERY differing position. A NaN margin,
    a margin too few or too many, or a shape that differs, fails.
    """
    m = measurement
    broken = _structure(m, Policy()) or _emptiness(m, False)
    if broken is not None:
        return broken
    if m.kind != "discrete" or m.mismatches is None:
        return _fail(m, Who.UNKNOWN, "a discrete output was not measured as one")
    if m.mismatches == 0:
        return _verdict(m, Status.PASS, Who.BOTH_WITHIN_ROUNDING, f"all {m.elements} equal")
    where = f"{m.mismatches} of {m.elements} differ, the first at {m.first_mismatch}"
    if margins is None or noise is None:
        return _fail(m, Who.ONNX, where)
    gaps = np.abs(np.asarray(margins, dtype=np.float64)).reshape(-1)
    if gaps.size != m.mismatches:
        return _fail(m, Who.UNKNOWN, f"{where}; {gaps.size} float64 margins were given for them")
    allowed = np.asarray(noise, dtype=np.float64)
    if allowed.ndim:
        allowed = allowed.reshape(-1)
        if allowed.size != gaps.size:
            return _fail(m, Who.UNKNOWN, f"{where}; {allowed.size} noise figures were given")
    # Written so that NaN, on either side, is not below.
    tied = (gaps == 0.0) & ties
    if tied.all():
        return _verdict(m, Status.AMBIGUOUS, Who.BOTH_WITHIN_ROUNDING, f"{EQUAL_VALUES}; {where}")
    below = (gaps < allowed) | tied
    if below.all():
        most = float(gaps.max())
        return _verdict(
            m,
            Status.AMBIGUOUS,
            Who.BOTH_WITHIN_ROUNDING,
            f"{where}; every float64 margin is below {of} (largest {most:.6g})",
        )
    at = int(np.argmin(below))
    gap, bound = float(gaps[at]), float(np.broadcast_to(allowed, gaps.shape)[at])
    shown, shown_bound = apart(gap, bound)
    return _fail(m, Who.ONNX, f"{where}; float64 margin {shown} is not below {of} {shown_bound}")


def apart(value: float, bound: float) -> tuple[str, str]:
    """Render two numbers with as many digits as it takes to see which one is larger."""
    for digits in range(4, 18):
        left, right = f"{value:.{digits}g}", f"{bound:.{digits}g}"
        if left != right or value == bound:
            return left, right
    return repr(value), repr(bound)


def _structure(m: Measurement, policy: Policy) -> Verdict | None:
    if m.problem is not None:
        in_pytorch = m.dtype_expected is None or m.problem_in_truth
        return _fail(m, Who.UNKNOWN if in_pytorch else Who.ONNX, m.problem)
    if m.shape_expected is None or m.shape_expected != m.shape_actual:
        return _fail(m, Who.ONNX, f"shape change: {m.shape_expected} -> {m.shape_actual}")
    same = m.dtype_expected is not None and m.dtype_expected == m.dtype_actual
    if not same and not _may_store(m, policy):
        return _fail(m, Who.ONNX, f"dtype change: {m.dtype_expected} -> {m.dtype_actual}")
    return None


def _may_store(m: Measurement, policy: Policy) -> bool:
    """True for an inner value that the file may store in another floating dtype."""
    if m.role != "inner" or m.kind == "discrete" or m.dtype_expected is None:
        return False
    if m.held is None:
        return policy.precision in _STORED_PRECISIONS and m.dtype_actual == policy.precision
    # What is too coarse fails with that reason, and its figures.
    return m.dtype_actual in FORMATS and m.dtype_actual in m.held


def _emptiness(m: Measurement, declared: bool) -> Verdict | None:
    if m.elements == 0 and declared:
        return _verdict(
            m,
            Status.EMPTY_AS_DECLARED,
            Who.BOTH_WITHIN_ROUNDING,
            f"empty as it is meant to be, shape {m.shape_expected} on both sides",
        )
    if m.elements == 0:
        return _fail(m, Who.UNKNOWN, f"empty, shape {m.shape_expected}, and no case declares it")
    if declared and m.role == "output":
        return _fail(m, Who.UNKNOWN, f"declared to be empty, but holds {m.elements} elements")
    return None


def _finiteness(m: Measurement) -> Verdict | None:
    if m.kind == "discrete":
        return None if m.compared else _fail(m, Who.UNKNOWN, "zero elements were compared")
    ours, theirs = m.sides
    counted = (m.nan_expected, m.nan_actual, m.inf_expected, m.inf_actual, m.inf_mismatch)
    if any(count is None for count in counted):
        return _fail(m, Who.UNKNOWN, "NaN and Inf were not counted")
    if m.nan_truth or m.nan_expected or m.nan_actual:
        who = _blame(m.nan_actual, m.nan_expected, m.nan_truth)
        return _fail(
            m,
            who,
            f"NaN: {m.nan_actual} in {theirs}, {m.nan_expected} in {ours},"
            f" {_said(m.nan_truth)} in float64",
        )
    infinities = (
        f"{m.inf_actual} in {theirs}, {m.inf_expected} in {ours}, {_said(m.inf_truth)} in float64"
    )
    if m.role == "output" and (m.inf_expected or m.inf_actual or m.inf_truth):
        who = _blame(m.inf_actual, m.inf_expected, m.inf_truth)
        return _fail(m, who, f"Inf in an output: {infinities}")
    if m.inf_mismatch:
        # With float64 as the judge where it was run, else PyTorch's word counts.
        by_actual = m.inf_mismatch if m.kind == "exact" else m.inf_mismatch_actual
        who = _blame(by_actual, m.inf_mismatch_expected, 0)
        return _fail(
            m, who, f"{m.inf_mismatch} infinities differ in sign or position: {infinities}"
        )
    if m.compared == 0:
        return _fail(m, Who.UNKNOWN, "zero elements were compared")
    return None


def _judge_exact(m: Measurement, policy: Policy) -> Verdict:
    bound = limit(m, policy)
    if m.bitwise_equal:
        reason = f"all {m.elements} bitwise equal"
        return _verdict(m, Status.PASS, Who.BOTH_WITHIN_ROUNDING, reason, limit=bound)
    distance = m.direct
    if distance is None or distance.max_abs is None:
        return _fail(m, Who.UNKNOWN, "not bitwise equal, and no distance was measured")
    if distance.max_abs == 0.0:
        reason = f"all {m.elements} equal but for the sign of zero or the dtype"
        return _verdict(m, Status.PASS, Who.BOTH_WITHIN_ROUNDING, reason, limit=bound)
    return _fail(
        m,
        Who.ONNX,
        f"{bound.why}, yet it changes values by up to {distance.max_abs:.6g}"
        f" at {distance.worst_index}: {distance.worst_expected!r} -> {distance.worst_actual!r}",
        limit=bound,
    )


def _judge_distance(m: Measurement, policy: Policy, layer: str) -> Verdict:
    actual, own = m.actual, m.reference
    if actual is None or own is None:
        return _fail(m, Who.UNKNOWN, "no distance to float64 was measured")
    bound = limit(m, policy, layer=layer)
    if actual.elements == 0:
        reason = f"all {m.elements} are infinities that agree in sign and position"
        return _verdict(m, Status.PASS, Who.BOTH_WITHIN_ROUNDING, reason, limit=bound)
    if actual.max_abs is None or actual.rms is None or own.max_abs is None or own.rms is None:
        return _fail(m, Who.UNKNOWN, "no distance to float64 was measured")
    errors = (("max", actual.max_abs, bound.max_abs), ("rms", actual.rms, bound.rms))
    if not all(math.isfinite(x) for x in (*(e for _, e, _ in errors), bound.max_abs, bound.rms)):
        return _fail(m, Who.UNKNOWN, "a distance to float64 overflows", limit=bound)
    ratio = _ratio((actual.max_abs, own.max_abs), (actual.rms, own.rms))
    strains = [error / allowed for _, error, allowed in errors]
    strain = max(strains)
    what, error, allowed = errors[strains.index(strain)]
    shown, shown_limit = apart(error, allowed)
    figures = f"{what} error {shown}, limit {shown_limit} = {bound.why}{_flipped(m)}"
    if m.pairs:
        figures = f"{PAIRS}: {figures}"
    # The comparison itself, not the quotient: a quotient may round to 1.
    passed = all(e <= a for _, e, a in errors)
    if not passed:
        figures += (
            f"; worst at {actual.worst_index}: float64 {actual.worst_expected!r},"
            f" {m.sides[1]} {actual.worst_actual!r}"
        )
        return _fail(m, Who.ONNX, figures, limit=bound, ratio=ratio, strain=strain)
    weak = _is_weak(m, bound)
    if weak:
        figures += "; weak: the limit is coarser than half of the values themselves"
        if m.role == "output":
            figures += ", so that nothing is shown of this output"
    who = Who.UNKNOWN if weak else Who.BOTH_WITHIN_ROUNDING
    # Turned round: is PyTorch further from float64 than ONNX's cost would allow it?
    swapped = limit(_with_reference(m), policy, layer=layer)
    if not weak and (own.max_abs > swapped.max_abs or own.rms > swapped.rms):
        who = Who.PYTORCH
        figures += f"; {m.sides[0]} is the worse one: max {own.max_abs:.4g}, rms {own.rms:.4g}"
    # What users get must be shown to be right; an inner value is seen again behind it.
    status = Status.AMBIGUOUS if weak and m.role == "output" else Status.PASS
    return _verdict(m, status, who, figures, limit=bound, ratio=ratio, strain=strain, weak=weak)


def _is_weak(m: Measurement, bound: Limit) -> bool:
    """True when values may be wrong by half of themselves and pass.

    Where truth is zero throughout, that is so unless everybody gives zero. Probabilities are as
    accurate as their range, however small they are.
    """
    if m.rms_scale:
        return bound.rms > 0.5 * max(m.rms_scale, m.natural_scale or 0.0)
    errors = [side.rms for side in (m.actual, m.reference) if side is not None]
    return any(error is None or error > 0.0 for error in errors)


def _flipped(m: Measurement) -> str:
    if not m.flips or not m.held or m.flip_margin is None:
        return ""
    return (
        f"; the largest of a row is another one in {m.flips} of {m.rows} rows"
        f" (float64 margin up to {m.flip_margin:.4g})"
    )


def _with_reference(m: Measurement) -> Measurement:
    return Measurement(
        name=m.name,
        elements=m.elements,
        dtype_expected=m.dtype_expected,
        scale=m.scale,
        rms_scale=m.rms_scale,
        natural_scale=m.natural_scale,
        reference=m.actual,
        held=m.held,
        sides=m.sides,
    )


def _ratio(*pairs: tuple[float, float]) -> float | None:
    ratios = [error / own for error, own in pairs if own > 0.0]
    return max(ratios) if len(ratios) == len(pairs) else None


def _blame(actual: int | None, expected: int | None, truth: int | None) -> Who:
    """Name the only side that has the defect; when several have it, nobody can be named."""
    if actual and not expected and not truth:
        return Who.ONNX
    if expected and not actual and not truth:
        return Who.PYTORCH
    return Who.UNKNOWN


def _said(count: int | None) -> str:
    return "not counted" if count is None else str(count)


def _verdict(m: Measurement, status: Status, who: Who, reason: str, **figures: Any) -> Verdict:
    return Verdict(name=m.name, status=status, who=who, reason=reason, **figures)


def _fail(m: Measurement, who: Who, reason: str, **figures: Any) -> Verdict:
    return _verdict(m, Status.FAIL, who, reason, **figures)
