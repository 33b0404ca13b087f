"""The rounds of a search: choose by what is predicted, run the file, correct, choose again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.interpret.propagated import Effects
from exporter.lowering.choice import SAFETY, Choice, choose
from exporter.lowering.outcome import Outcome

_Tried = tuple[frozenset[int], tuple[Outcome, ...]]
"""Places of the layers that are lowered in a file, and what the file does."""
ROUNDS = 3
_HALVINGS = 8
_EXTENSIONS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a lowered file has to keep.

    Attributes:
        to: precision. max_error: relative rms error at the targets, on every case.
        max_flips: decisions that may go another way beyond float32's noise, on every case.
        prefer: "speed" or "size". directions: random ones per case.
        budget: seconds after which no further round begins.
    """

    to: str
    max_error: float
    max_flips: int = 0
    prefer: str = "speed"
    directions: int = 16
    budget: float = float("inf")

    def met_by(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether runs are within what is wanted; of nothing, nothing is known."""
        return bool(outcomes) and all(
            o.error is not None and o.error <= self.max_error and o.flips <= self.max_flips
            for o in outcomes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: how many layers stayed, what was predicted and what was measured."""

    kept: int
    predicted: Choice
    outcomes: tuple[Outcome, ...]
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The rounds of one search.

    Attributes:
        first: effects of the layers at PyTorch's values, one per case. effects_at: the same
            where a file is that has these layers lowered.
        run: writes and runs such a file, and adds a round to ``done``.
        gain: what lowering each is worth. never: places of layers that must stay.
        fits: with everything lowered, the file is within what is wanted.
        done: rounds so far.
        began: when the search did.
    """

    wanted: Wanted
    first: tuple[Effects, ...]
    effects_at: Callable[[frozenset[int]], tuple[Effects, ...]]
    run: Callable[[frozenset[int], Sequence[Effects]], tuple[Outcome, ...]]
    gain: np.ndarray
    never: frozenset[int]
    fits: bool
    done: list[Round]
    began: float

    def best(self) -> _Tried:
        """The choice that gains most of those that are within what is wanted; else the last."""
        wanted, gain = self.wanted, self.gain
        able = {int(n) for n in np.flatnonzero(gain > 0.0)} - self.never
        if self.fits and able:
            every = (frozenset(able), self.run(frozenset(able), self.first))
            if wanted.met_by(every[1]):
                return every
        effects, limit, safety = self.first, wanted.max_error, SAFETY
        best: _Tried | None = None
        last: _Tried | None = None
        for _ in range(ROUNDS):
            if self.done and time.monotonic() - self.began > wanted.budget:
                break
            if last is not None:
                effects = self.effects_at(last[0])
            choice = choose(
                effects,
                gain,
                limit,
                never=self.never,
                max_flips=wanted.max_flips,
                safety=safety,
            )
            if last is not None and choice.lowered == last[0] and self.done[-1].met:
                break
            outcomes = self.run(choice.lowered, effects)
            last = (choice.lowered, outcomes)
            met = wanted.met_by(outcomes)
            worth = sum(gain[n] for n in choice.lowered)
            if met and (best is None or worth > sum(gain[n] for n in best[0])):
                best = last
            worst = max((o.error or 0.0 for o in outcomes), default=0.0)
            if met and worst >= 0.5 * wanted.max_error:
                break
            if met and len(choice.lowered) + len(self.never) >= int((gain > 0.0).sum()):
                break
            if np.isfinite(worst) and worst > 0.0:
                # What was predicted is corrected by what was measured.
                limit *= float(np.clip(0.9 * wanted.max_error / worst, 0.25, 3.0))
            if any(o.flips > wanted.max_flips for o in outcomes):
                safety *= 2.0
            elif met:
                safety = max(1.0, safety / 2.0)
        if best is None and last is not None:
            best = self._halved(last[0])
        if best is None:
            raise RuntimeError("a search has no round")
        if wanted.met_by(best[1]):
            return self._extended(best, able)
        return best

    def _extended(self, best: _Tried, able: set[int]) -> _Tried:
        """Predictions are careful: try what they leave, the harmless half first, by running it."""
        damage = np.max([effect.damage for effect in self.first], axis=0)
        wanted, step = self.wanted, 1.0
        for _ in range(_EXTENSIONS):
            left = sorted(able - best[0], key=lambda n: damage[n])
            if not left or time.monotonic() - self.began > wanted.budget:
                break
            step /= 2.0
            more = left[: max(1, round(len(left) * step))]
            lowered = best[0] | frozenset(more)
            outcomes = self.run(lowered, self.first)
            if self.done[-1].met:
                best, step = (lowered, outcomes), 1.0
            elif len(more) == 1:
                able.discard(more[0])
                step = 1.0
        return best

    def _halved(self, lowered: frozenset[int]) -> _Tried:
        """Where predictions do not hold: the worse half of what is lowered stays, until it does."""
        damage = np.max([effect.damage for effect in self.first], axis=0)
        found: tuple[Outcome, ...] = self.done[-1].outcomes
        for _ in range(_HALVINGS):
            if not lowered:
                break
            ranked = sorted(lowered, key=lambda n: damage[n])
            lowered = frozenset(ranked[: len(ranked) // 2])
            found = self.run(lowered, self.first)
            if self.done[-1].met:
                break
        return lowered, found
