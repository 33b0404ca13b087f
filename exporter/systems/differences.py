"""Why PyTorch and ONNX say different tokens: the first choice that differs, weighed in float64.

Up to that choice both sides had made the same ones. The float64 graphs are led along them and say
how far apart the two candidates are; what float32 costs there is PyTorch's own distance from
float64. A margin below it is a tie: either choice is right. ONNX is then led past the tie, and the
search goes on, so that a tie early on excuses nothing that comes later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exporter.drivers import Decider, Outcome
from exporter.drivers.decisions import Chosen
from exporter.drivers.graph import Graph
from exporter.parity.tolerance import FORMATS, Policy
from exporter.parity.verdict import apart
from exporter.report.system import DifferenceRecord

Drive = Callable[[dict[str, Graph], Decider], Outcome]
MOST_TIES = 16
"""More ties than this in one hypothesis are no rounding."""
_LIKELIEST = 64
"""Candidates whose rounding is looked at, beside those that were chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The same system three times."""

    float32: dict[str, Graph]
    float64: dict[str, Graph]
    onnx: dict[str, Graph]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedChoices:
    """Differing choices, in their order.

    Attributes:
        differences: ties, and at the end the one that is none, if there is one.
        ties_only: every difference is a tie, and led past them ONNX says what PyTorch says.
    """

    differences: tuple[DifferenceRecord, ...]
    ties_only: bool


def explain_difference(
    drive: Drive, sides: Sides, expected: Outcome, made: list[Chosen], policy: Policy
) -> ExplainedChoices:
    """Find why ONNX's tokens are not PyTorch's.

    Args:
        expected: what float32 PyTorch gave. made: its choices.
    """
    led: dict[int, Chosen] = {}
    differences: list[DifferenceRecord] = []
    while len(differences) < MOST_TIES:
        actual = Decider(led)
        outcome = drive(sides.onnx, actual)
        if outcome.tokens == expected.tokens:
            return ExplainedChoices(differences=tuple(differences), ties_only=bool(differences))
        number = first_difference(made, actual.made)
        if number is None:
            break  # the same choices, and other tokens: no choice of the driver's explains it
        record = _weighed(drive, sides, made, actual, number, policy)
        differences.append(record)
        if not record.tie:
            break
        led[number] = made[number]
    return ExplainedChoices(differences=tuple(differences), ties_only=False)


def first_difference(left: list[Chosen], right: list[Chosen]) -> int | None:
    """Number of the first choice that differs, or that only one side made."""
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return number
    return None if len(left) == len(right) else min(len(left), len(right))


def _weighed(
    drive: Drive,
    sides: Sides,
    made: list[Chosen],
    actual: Decider,
    number: int,
    policy: Policy,
) -> DifferenceRecord:
    narrow, wide = Decider(made, watched=number), Decider(made, watched=number)
    drive(sides.float32, narrow)
    drive(sides.float64, wide)
    theirs = actual.made[number] if number < len(actual.made) else ()
    ours = made[number] if number < len(made) else ()
    places = wide.places if number < len(wide.places) else actual.places
    what, at = places[number]
    margin, noise = _margin(ours, theirs, wide.scores, narrow.scores, policy)
    tie = margin is not None and noise is not None and margin <= noise
    if margin is None or noise is None:
        reason = "one side goes on where the other has ended"
    else:
        shown = apart(margin, noise)
        word = "a tie: float64 margin {} is within" if tie else "float64 margin {} is beyond"
        reason = f"{word.format(shown[0])} what float32 costs here, {shown[1]}"
    return DifferenceRecord(
        number=number,
        what=what,
        at=at,
        graph=actual.graphs[number] if number < len(actual.graphs) else wide.graphs[number],
        expected=list(ours),
        actual=list(theirs),
        margin=margin,
        noise=noise,
        tie=tie,
        reason=reason,
    )


def _margin(
    ours: Chosen,
    theirs: Chosen,
    wide: np.ndarray | None,
    narrow: np.ndarray | None,
    policy: Policy,
) -> tuple[float | None, float | None]:
    """Largest float64 gap between what was chosen in one place, and what float32 costs there."""
    if wide is None or narrow is None or len(ours) != len(theirs) or wide.shape != narrow.shape:
        return None, None
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    if any(max(pair) >= len(wide) for pair in pairs):
        return None, None
    gaps = [abs(float(wide[a] - wide[b])) for a, b in pairs]
    if not np.isfinite(gaps).all():
        return None, None
    finite = np.flatnonzero(np.isfinite(wide) & np.isfinite(narrow))
    likeliest = finite[np.argsort(-wide[finite])][:_LIKELIEST]
    looked_at = np.unique(np.concatenate([likeliest, np.array(pairs).reshape(-1)]))
    cost = float(np.abs(wide[looked_at] - narrow[looked_at]).max())
    # Float32 is sometimes lucky: an op costs at least what the policy's floor says.
    scale = float(np.abs(wide[looked_at]).max())
    floor = policy.floor_max_ulps * FORMATS["float32"].roundoff * scale
    # Two sides round: each may be off by so much.
    return max(gaps), 2 * policy.factor * max(cost, floor)
