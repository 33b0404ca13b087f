"""Which front end gives these features? Found by trying: single changes, numbers, then pairs.

Each step tries every single change of every parameter and takes the one that leaves the least; when
none helps, pairs of the best; then numbers are moved within their range. What was changed on
the way and is not needed in the end is taken back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from exporter.features.front_end import FrontEnd, Material
from exporter.features.residual import IMPOSSIBLE, ROUNDING, Fit, compared, fit, overlap
from exporter.features.space import (
    PARAMETERS,
    PRESETS,
    Parameter,
    ParameterChange,
    changes,
    shapes,
)

HALF_ROUNDING = 1e-3
"""Residual that float16 may leave, where features are stored so."""
_WORTH = 0.97
"""A change that leaves more than this share of what was there explains nothing."""
_NEEDED = 1.1
"""Taking back a change that is needed makes the residual this much larger, or more."""
_MOST_STEPS = 14
_PAIRS = 6
_MOST_TRIED = 3000
_MOST_NOISE = 0.5
_MOST_DOUBTS = 6
_CLOSER = 3
_BESIDE = 8
_WHOLE = ("padded_frames",)
_NUMBERS = ("preemphasis", "low_hz", "high_hz", "floor", "dither", *_WHOLE)
"""Fields that may have any value; the search moves them on from the usual ones."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One difference: what a parameter is in both, and what its change does to the residual.

    Attributes:
        parameter: its name. ours, theirs: in words.
        before, after: residual without and with it, all others changed.
        doubt: other single explanations that leave as little, in words.
    """

    parameter: str
    ours: str
    theirs: str
    before: float
    after: float
    doubt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestFrontEnd:
    """The nearest front end.

    Attributes:
        front_end: it. fit: what it leaves. start: the fit of the front end it was looked for from.
        tried: how many front ends were computed.
    """

    front_end: FrontEnd
    fit: Fit
    start: Fit
    tried: int


class FrontEndSearch:
    """Looks for the front end of features ``[T, D]``."""

    def __init__(self, theirs: np.ndarray, material: Material) -> None:
        self.theirs = theirs.astype(np.float64)
        self.material = material
        with np.errstate(over="ignore"):
            half = bool((theirs.astype(np.float16) == theirs).all())
        self.enough = HALF_ROUNDING if half else ROUNDING
        self._fits: dict[FrontEnd, Fit] = {}

    def fit(self, front_end: FrontEnd) -> Fit:
        """Fit of one front end; each is computed once."""
        if front_end not in self._fits:
            self._fits[front_end] = fit(self.theirs, front_end, self.material)
        return self._fits[front_end]

    def found(self, start: FrontEnd, presets: Mapping[str, FrontEnd] = PRESETS) -> NearestFrontEnd:
        """The nearest front end, looked for from ``start``, and from recipes where that fails."""
        ways = self._shaped(start) or [start]
        best = self._from(ways[0])
        for way in ways[1:]:
            if self._done(best):
                break
            best = min(best, self._from(way), key=lambda p: self.fit(p).score)
        if not self._done(best) and not self._in_few_frames(start):
            recipes = [_at_rate(p, start) for p in presets.values()]
            reachable = [shaped for p in recipes for shaped in self._shaped(p)[:1]]
            for recipe in sorted(reachable, key=lambda p: self.fit(p).score):
                other = self._from(recipe)
                if self.fit(other).score < _WORTH * self.fit(best).score:
                    best = other
                if self._done(best):
                    break
            else:
                best = self._from(best, pairs=True)
        best = self._without_needless(start, best)
        return NearestFrontEnd(
            front_end=best, fit=self.fit(best), start=self.fit(start), tried=len(self._fits)
        )

    def _in_few_frames(self, p: FrontEnd) -> bool:
        """Most frames agree with ``p``, or theirs are all one value: no other recipe gives them."""
        if not self.theirs.std():
            return True
        if self.fit(p).residual == IMPOSSIBLE:
            return False
        a, b = overlap(self.theirs, self.material.features(p), p.first_frame)
        rms = np.sqrt(np.mean((compared(a, p) - compared(b, p)) ** 2, axis=1))
        return bool(np.median(rms) <= self.enough * compared(a, p).std())

    def _done(self, p: FrontEnd) -> bool:
        return self.fit(p).explained(self.enough)

    def _shaped(self, p: FrontEnd) -> list[FrontEnd]:
        """``p`` with as many values a frame as theirs: as it is, if it can, then the nearest."""
        ways = [_changed(p, way) for way in shapes(p, self.theirs.shape[1])]
        ways = [way for way in ways if self.fit(way).residual < IMPOSSIBLE]
        return sorted(ways, key=lambda way: (way != p, self.fit(way).score))

    def _from(self, start: FrontEnd, *, pairs: bool = False) -> FrontEnd:
        """Where single changes lead from ``start``; with ``pairs`` also two at once."""
        best = start
        for _ in range(_MOST_STEPS):
            if self._done(best) or len(self._fits) > _MOST_TRIED:
                break
            ranked = self._ranked(best)
            step = self._closer(ranked[:_CLOSER], best) if ranked else best
            if not self._better(step, best):
                step = self._refined(best)
            if pairs and not self._better(step, best):
                step = self._pair(best, ranked)
            if not self._better(step, best):
                break
            best = step
        return self._refined(best)

    def _closer(self, ranked: list[FrontEnd], base: FrontEnd) -> FrontEnd:
        """The best of some changes, each number that was changed moved to where it fits best."""
        candidates = []
        for p in ranked:
            for name in _NUMBERS:
                if getattr(p, name) != getattr(base, name) and not self._done(p):
                    p = self._moved(p, name)
            candidates.append(p)
        return min(candidates, key=lambda p: self.fit(p).score)

    def _better(self, p: FrontEnd, than: FrontEnd) -> bool:
        return self.fit(p).score < _WORTH * self.fit(than).score

    def _ranked(self, p: FrontEnd) -> list[FrontEnd]:
        """All single changes of ``p``, the best first."""
        noisy = self.fit(p).residual < _MOST_NOISE  # to try noise is slow, and it changes little
        tried = {
            change.of(p)
            for change in changes(p, self.theirs, self.material)
            if noisy or change.parameter != "dither"
        }
        return sorted(tried, key=lambda other: (self.fit(other).score, repr(other)))

    def _pair(self, best: FrontEnd, ranked: list[FrontEnd]) -> FrontEnd:
        """The best of two changes at once, the first of them one of the most promising."""
        better = best
        for first in ranked[:_PAIRS]:
            for change in changes(first, self.theirs, self.material):
                if change.parameter == "dither":
                    continue  # what noise hides is found behind it, one by one
                other = change.of(first)
                if self.fit(other).score < self.fit(better).score:
                    better = other
        return better

    # -- numbers between the usual ones ------------------------------------------------------------

    def _refined(self, p: FrontEnd) -> FrontEnd:
        """Numbers moved to where they leave least, and rounded if that costs nothing."""
        if self._done(p):
            return p
        for name in _NUMBERS:
            p = self._moved(p, name)
        return p

    def _moved(self, p: FrontEnd, name: str) -> FrontEnd:
        current = getattr(p, name)
        if not current and name not in ("preemphasis", "low_hz"):
            return p
        logarithmic = name in ("floor", "dither")
        low, high = _range(p, name, current)

        def at(x: float) -> FrontEnd:
            value = 10**x if logarithmic else x
            return replace(p, **{name: round(value) if name in _WHOLE else value})

        best = _golden(lambda x: self.fit(at(x)).score, low, high)
        if name in _WHOLE:  # the valley of a whole number may be as narrow as one
            best = min(
                (c + k for c in (round(best), current) for k in range(-_BESIDE, _BESIDE + 1)),
                key=lambda x: self.fit(at(x)).score,
            )
        digits = [float(f"{best:.{n}g}") for n in (1, 2, 3, 4)] if not logarithmic else []
        if logarithmic:
            digits = [math.log10(float(f"{10**best:.{n}g}")) for n in (1, 2, 3)]
        for x in [*digits, best]:
            if self.fit(at(x)).score <= 1.02 * self.fit(at(best)).score:
                best = x
                break
        moved = at(best)
        return moved if self._better(moved, p) else p

    # -- what is needed ----------------------------------------------------------------------------

    def _without_needless(self, start: FrontEnd, simpler: FrontEnd) -> FrontEnd:
        """``simpler`` with every parameter as in ``start`` that leaves as little so."""
        again = True
        while again:
            again = False
            for parameter in different(start, simpler):
                back = with_fields(simpler, start, parameter.fields)
                kept = max(_NEEDED * self.fit(simpler).unexplained, 0.5 * self.enough)
                same_frames = abs(self.fit(back).frames) <= abs(self.fit(simpler).frames)
                if same_frames and self.fit(back).unexplained <= kept:
                    simpler, again = back, True
        return simpler

    def steps(self, start: FrontEnd, front_end: FrontEnd) -> list[Step]:
        """Each difference, with what is left without it and what explains as much."""
        listed = []
        for parameter in different(start, front_end):
            back = with_fields(front_end, start, parameter.fields)
            listed.append(
                Step(
                    parameter=parameter.name,
                    ours=parameter.show(start),
                    theirs=parameter.show(front_end),
                    before=self.fit(back).unexplained,
                    after=self.fit(front_end).unexplained,
                    doubt=tuple(self._as_good(back, front_end, parameter))[:_MOST_DOUBTS]
                    if self._done(front_end)
                    else (),
                )
            )
        return listed

    def _as_good(self, back: FrontEnd, front_end: FrontEnd, parameter: Parameter) -> Iterable[str]:
        """Other single changes of ``back`` that leave about as little as ``front_end``."""
        wanted = max(1.5 * self.fit(front_end).score, 0.5 * self.enough)
        seen = {parameter.show(front_end)}
        for other in [*self._ranked(back)]:
            if self.fit(other).score > wanted or other == front_end:
                continue
            for other_name in different(back, other):
                if other_name.name == parameter.name and other_name.show(other) in seen:
                    continue
                seen.add(other_name.show(other))
                yield f"{other_name.name}: {other_name.show(other)}"


def different(a: FrontEnd, b: FrontEnd) -> list[Parameter]:
    """Parameters that are not the same in both."""
    return [
        parameter
        for parameter in PARAMETERS
        if any(getattr(a, name) != getattr(b, name) for name in parameter.fields)
        and parameter.show(a) != parameter.show(b)
    ]


def with_fields(p: FrontEnd, source: FrontEnd, names: Iterable[str]) -> FrontEnd:
    """``p`` with some fields as ``source`` has them."""
    return replace(p, **{name: getattr(source, name) for name in names})


def _at_rate(p: FrontEnd, start: FrontEnd) -> FrontEnd:
    rate = start.sample_rate_hz
    return replace(p, sample_rate_hz=rate, high_hz=rate / 2, resampler=start.resampler)


def _changed(p: FrontEnd, way: Iterable[ParameterChange]) -> FrontEnd:
    for change in way:
        p = change.of(p)
    return p


def _range(p: FrontEnd, name: str, current: float) -> tuple[float, float]:
    nyquist = p.sample_rate_hz / 2
    if name == "preemphasis":
        return (max(current - 0.1, 0.0), min(current + 0.1, 1.0)) if current else (0.0, 1.0)
    if name == "low_hz":
        return max(current - 60, 0.0), min(current + 60, nyquist / 2)
    if name == "high_hz":
        return max(current - 600, nyquist / 4), min(current + 600, nyquist)
    if name == "padded_frames":
        return 0.3 * current, 3.5 * current
    return math.log10(current) - 1.0, math.log10(current) + 1.0


def _golden(of: Callable[[float], float], low: float, high: float, steps: int = 18) -> float:
    """Where a function with one valley is least (golden section, Kiefer 1953)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = of(left), of(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = of(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = of(right)
    return min((low, left, right, high), key=lambda x: of(x))
