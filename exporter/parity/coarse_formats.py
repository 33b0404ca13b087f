"""What a file holds changes a verdict: too coarse is a failure, and coarse limits show little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, Who
from exporter.parity.tolerance import Policy
from exporter.parity.verdict_record import Verdict

SEEN = 2.0**-6
"""Largest share of an output's own rms that a limit may be where nothing but outputs is compared:
above, a weight row that is wrong or a mask that is dropped moves it by less."""
NEAR = 2.0
"""Times the limit up to which an output of a lowered file may be off for want of knowledge."""
LOST = 2.0**-8
"""The same of a value whose piece holds one that nobody has found in the file: an epsilon that is
wrong moves what follows by less than int8 costs."""


def allowed(coarse: Sequence[str], policy: Policy, verdict: Verdict) -> Verdict:
    """A file may hold what is declared, and nothing coarser, whatever its figures are.

    Args:
        coarse: formats that it holds and that are coarser.
    """
    if not coarse:
        return verdict
    said = f"{undeclared(coarse, policy)}; {verdict.reason}"
    held = tuple(coarse)
    return replace(verdict, status=Status.FAIL, who=Who.ONNX, reason=said, coarse=held)


def undeclared(coarse: Sequence[str], policy: Policy) -> str:
    """In words, that a file holds formats that nobody has declared."""
    declared = f"the declared precision ({policy.precision})"
    return f"the file holds {' and '.join(coarse)} here, coarser than {declared}"


def visible(m: Measurement, verdict: Verdict) -> Verdict:
    """Outputs alone show a fault only where the limit is smaller than what a fault does.

    What a format costs there is known less well than with layers: which node stores what is not
    known. An error that is just above the limit is no proof either.
    """
    bound = verdict.limit
    if not m.alone or not m.held or bound is None:
        return verdict
    near = verdict.status is Status.FAIL and verdict.strain is not None and verdict.strain <= NEAR
    coarse = verdict.status is Status.PASS and bound.rms > SEEN * (m.rms_scale or 0.0)
    if not near and not coarse:
        return verdict
    why = "too coarse to see a fault" if coarse else "too near to tell a fault from rounding"
    said = f"the limit at the output is {why}: compare layers; {verdict.reason}"
    return replace(verdict, status=Status.AMBIGUOUS, who=Who.UNKNOWN, reason=said)


def seen_through(m: Measurement, lost: Sequence[str], verdict: Verdict) -> Verdict:
    """A value vouches for ones in front of it that were not found, unless its limit is coarse.

    Args:
        lost: values that a healthy file holds, between this one and the compared ones before it.
    """
    bound = verdict.limit
    if not lost or not m.held or bound is None or verdict.status is not Status.PASS:
        return verdict
    if bound.rms <= LOST * (m.rms_scale or 0.0):
        return verdict
    names = ", ".join(f"'{name}'" for name in lost)
    said = f"too coarse to see a fault in {names}, not found in the file; {verdict.reason}"
    return replace(verdict, status=Status.AMBIGUOUS, who=Who.UNKNOWN, reason=said)
