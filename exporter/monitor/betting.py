"""A rate of errors from strata, with bounds that may be looked at after every label.

Recordings have ``errors`` and ``words``; a rate t is the true one where the recordings' mean of
x = errors - t words is 0. Of recordings in strata h of N_h that is

    sum over h of  N_h d_h = 0,          d_h: mean of x in stratum h

**One stratum.** Labels come in random order, so the next x has the mean m of what is left,
m = (N d - sum of x so far) / (N - number of labels), or d where the recordings are without end. As
-t C <= x <= C for recordings of at most C words and errors, the products of

    1 + b (x - m) / (m + t C)            against "the mean is d or less"
    1 - b (x - m) / (C - m)              against "the mean is d or more",        0 <= b < 1

are e-processes, and so is their mean over several b (betting: Waudby-Smith and Ramdas 2024, without
replacement). The first falls with d, the second rises with it, and the second rises with t.

**All strata.** The product of the strata's e-processes is one, in whatever turns they are labelled:
"low margins first" is no bias. Nobody knows the d_h, only their sum; so a rate is refused when the
product is large for all d_h with that sum. These are taken in small steps, each with the lower
value that it has at its two ends: what the steps cost makes the bounds wider, never wrong.

Both bounds together hold at all times at once with a probability of 1 - ``RISK``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RISK = 0.05
STEPS = 400
"""Of rates between 0 and 1."""
_BLOCK = 20
_MEANS = 100
_BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
_ENOUGH = math.log(2 / RISK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Recordings of a kind, of which some have labels.

    Attributes:
        recordings: how many it has; ``math.inf`` where the labelled ones were drawn of a stream.
        counts: ``(errors, words)`` of the labelled ones, in the order in which chance put them.
    """

    name: str
    recordings: float
    counts: Sequence[tuple[int, int]]

    def mean(self, column: int) -> float:
        """Errors (0) or words (1) per labelled recording."""
        return sum(row[column] for row in self.counts) / len(self.counts)


def rate_of_strata(strata: Sequence[Stratum]) -> float | None:
    """The rate of all recordings, each stratum with its weight; None while one has no label."""
    if not all(stratum.counts for stratum in strata):
        return None
    size = _sizes(strata)
    errors, words = (sum(n * h.mean(k) for n, h in zip(size, strata, strict=True)) for k in (0, 1))
    return errors / words if words else float(errors > 0)


def bounds_of(strata: Sequence[Stratum], most: int) -> tuple[float, float]:
    """Lowest and highest rate that the labels leave.

    Args:
        strata: one or two.
        most: words of a recording at most, and errors; larger counts are taken for this.
    """
    cut = [
        Stratum(
            name=stratum.name,
            recordings=stratum.recordings,
            counts=[(min(e, most), min(w, most)) for e, w in stratum.counts],
        )
        for stratum in strata
    ]
    if all(len(stratum.counts) >= stratum.recordings for stratum in cut):
        known = rate_of_strata(cut) or 0.0
        return known, known
    return _lowest(cut, most) / STEPS, min(_beyond(cut, most), STEPS) / STEPS


def _lowest(strata: Sequence[Stratum], most: int) -> int:
    """The last step that is refused as too low, before the first that is not."""
    for first in range(0, STEPS + 1, _BLOCK):
        rates = np.arange(first, min(first + _BLOCK, STEPS + 1)) / STEPS
        left = np.flatnonzero(_evidence(strata, rates, most, 1) < _ENOUGH)
        if left.size:
            return max(0, first + int(left[0]) - 1)
    return STEPS


def _beyond(strata: Sequence[Stratum], most: int) -> int:
    """The first step that is refused as too high: what is against a rate rises with it."""
    inside, beyond = -1, STEPS + 1
    while beyond - inside > 1:
        tried = np.unique(np.linspace(inside + 1, beyond - 1, _BLOCK).astype(np.int64))
        refused = np.flatnonzero(_evidence(strata, tried / STEPS, most, -1) >= _ENOUGH)
        first = int(refused[0]) if refused.size else len(tried)
        inside, beyond = (
            int(tried[first - 1]) if first else inside,
            int(tried[first]) if refused.size else beyond,
        )
    return beyond


def _sizes(strata: Sequence[Stratum]) -> list[float]:
    return [stratum.recordings if math.isfinite(stratum.recordings) else 1.0 for stratum in strata]


def _evidence(strata: Sequence[Stratum], rates: np.ndarray, most: int, sign: int) -> np.ndarray:
    """``[T]`` logs of the evidence that the rate is above (1) or below (-1) each of ``rates``."""
    rates = rates[:, None]
    if len(strata) == 1:
        return _of_one(strata[0], rates, np.zeros_like(rates), most, sign)[:, 0]
    first, second = strata
    share = first.recordings / second.recordings
    # Means of the first that the second can make up for.
    lowest = np.maximum(-rates * most, -most / share)
    highest = np.minimum(most, rates * most / share)
    means = lowest + (highest - lowest) * np.linspace(0, 1, _MEANS + 1)
    one = _of_one(first, rates, means, most, sign)
    two = _of_one(second, rates, -share * means, most, sign)
    # Of a step, the lower end of each: the first falls where the second rises.
    both = one[:, 1:] + two[:, :-1] if sign > 0 else one[:, :-1] + two[:, 1:]
    return both.min(axis=1)


def _of_one(
    stratum: Stratum, rates: np.ndarray, means: np.ndarray, most: int, sign: int
) -> np.ndarray:
    """``[T, D]`` logs of a stratum's evidence against ``means``, ``[T, D]``; rates: ``[T, 1]``."""
    logs = np.zeros((*means.shape, len(_BETS)))
    total, least_room = np.zeros_like(rates), 1e-9 * most
    for number, (errors, words) in enumerate(stratum.counts):
        x = errors - rates * words
        left = stratum.recordings - number
        m = means + (number * means - total) / left if math.isfinite(left) else means
        room = np.maximum(m + rates * most if sign > 0 else most - m, least_room)
        gain = sign * (x - m) / room
        # A mean that what is left cannot have leaves no room: whatever comes is against it.
        logs += np.log(np.maximum(1 + gain[..., None] * _BETS, 1e-300))
        total = total + x
    peak = logs.max(axis=-1, keepdims=True)
    return np.log(np.exp(logs - peak).mean(axis=-1)) + peak[..., 0]
