"""Which layers stay in float32: an integer program over predicted effects and measured gains.

    z_l = 1   layer l is lowered

    most      sum_l gain_l z_l
    such that sum_l z_l d_l^2                        <= limit^2       errors that add up at random
              z^T (A^T A / k) z                      <= limit^2       with every interaction
              |s_j + sum_l s_jl z_l|                 <= m_j / safety  for each smallest margin j
              z_l = 0                                                 where a value overflows

The second is a cone: its tangents are added where the solution so far leaves it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from exporter.interpret.propagated import Effects

SAFETY = 2.0
"""What is predicted may be off by so much: a share 1/SAFETY of a margin may be used up."""
_CUTS = 20
_SECONDS = 5.0
_GAP = 0.01
"""A choice that is proved to be within so much of the best is good enough: what is predicted is not
that well known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A choice, and what is predicted of it.

    Attributes:
        lowered: places of the layers that are lowered.
        error: predicted relative rms error at the targets, the larger of both ways to add up.
        flips: smallest margins that a prediction leaves.
        optimal: the solver has proved it, within 1 %.
    """

    lowered: frozenset[int]
    error: float
    flips: int
    optimal: bool


def choose(
    effects: Sequence[Effects],
    gain: np.ndarray,
    limit: float,
    *,
    never: Collection[int] = (),
    max_flips: int = 0,
    safety: float = SAFETY,
    seconds: float = _SECONDS,
) -> Choice:
    """Solve for the layers to lower.

    Args:
        effects: of every case; the columns are the same layers.
        gain: [L], what lowering each is worth; one that is worth nothing stays.
        limit: of the relative error at the targets, on every case.
        never: places of layers that must stay.
        max_flips: so many of the smallest margins in all may be left.
    """
    count = len(gain)
    began = time.monotonic()
    # A gradient that is no number (a root of zero, of silence) says nothing: such a layer stays.
    unknown = np.flatnonzero(~np.all([_known(effect) for effect in effects], axis=0))
    effects = [_finite(effect) for effect in effects]
    rows, highs, flags = _margins(effects, safety)
    total = count + flags
    for effect in effects:
        rows.append(np.concatenate([np.square(effect.damage), np.zeros(flags)]))
        highs.append(limit**2)
    if flags:
        rows.append(np.concatenate([np.zeros(count), np.ones(flags)]))
        highs.append(float(max_flips))
    upper = np.ones(total)
    upper[[*never, *unknown, *np.flatnonzero(gain <= 0.0)]] = 0.0
    worth = np.concatenate([-gain, np.zeros(flags)])
    chosen, optimal = np.zeros(count), False
    for _ in range(_CUTS):
        left = max(1.0, seconds - (time.monotonic() - began))
        solved = milp(
            worth / max(float(np.abs(gain).max(initial=0.0)), 1e-30),
            # scipy's annotations know numbers alone; it takes arrays.
            constraints=LinearConstraint(np.array(rows), -np.inf, np.array(highs)),  # pyright: ignore[reportArgumentType]
            integrality=np.ones(total),
            bounds=Bounds(0.0, upper),  # pyright: ignore[reportArgumentType]
            options={"time_limit": left, "mip_rel_gap": _GAP},
        )
        if solved.x is None:
            break
        chosen, optimal = np.round(solved.x[:count]), solved.status == 0
        cuts = [cut for effect in effects if (cut := _tangent(effect, chosen, limit)) is not None]
        if not cuts:
            break
        rows += [np.concatenate([cut[0], np.zeros(flags)]) for cut in cuts]
        highs += [cut[1] for cut in cuts]
        optimal = False
        if time.monotonic() - began > seconds:
            break
    return predicted(effects, chosen, optimal=optimal)


def _known(effect: Effects) -> np.ndarray:
    """[L]: True where all that is said of a layer is a number."""
    rows = np.concatenate([effect.spread, effect.shifts])
    return np.asarray(np.isfinite(rows).all(axis=0))


def _finite(effect: Effects) -> Effects:
    return replace(
        effect,
        spread=np.nan_to_num(effect.spread, posinf=0.0, neginf=0.0),
        shifts=np.nan_to_num(effect.shifts, posinf=0.0, neginf=0.0),
    )


def predicted(effects: Sequence[Effects], lowered: np.ndarray, *, optimal: bool = True) -> Choice:
    """What is predicted of a choice. ``lowered``: [L], 1 where a layer is lowered."""
    worst, flips = 0.0, 0
    for effect in map(_finite, effects):
        apart = float(np.square(effect.damage) @ lowered)
        together = float(np.mean(np.square(effect.spread @ lowered))) if len(effect.spread) else 0.0
        worst = max(worst, np.sqrt(max(apart, together)))
        moved = np.abs(effect.shifts @ lowered) if len(effect.shifts) else np.zeros(0)
        flips += int((moved > effect.margins).sum())
    places = frozenset(int(place) for place in np.flatnonzero(lowered))
    return Choice(lowered=places, error=float(worst), flips=flips, optimal=optimal)


def _tangent(effect: Effects, at: np.ndarray, limit: float) -> tuple[np.ndarray, float] | None:
    """``a . z <= limit`` that cuts a point off whose errors add up to more than the limit."""
    if not len(effect.spread):
        return None
    sums = effect.spread @ at
    size = float(np.sqrt(np.mean(np.square(sums))))
    if size <= limit * (1.0 + 1e-6):
        return None
    return (sums @ effect.spread) / (len(sums) * size), limit


def _margins(effects: Sequence[Effects], safety: float) -> tuple[list, list, int]:
    """Rows of the smallest margins; each may be given up by a flag of its own."""
    terms = [
        (shift, margin)
        for effect in effects
        for shift, margin in zip(effect.shifts, effect.margins, strict=True)
        if np.abs(shift).sum() > 0.0
    ]
    rows: list[np.ndarray] = []
    highs: list[float] = []
    for place, (shift, margin) in enumerate(terms):
        flag = np.zeros(len(terms))
        # A flag that is raised makes room for all that could happen.
        flag[place] = -float(np.abs(shift).sum())
        squares = np.zeros(len(terms))
        squares[place] = -float(np.square(shift).sum())
        room = margin / safety
        rows += [np.concatenate([shift, flag]), np.concatenate([-shift, flag])]
        rows.append(np.concatenate([np.square(shift), squares]))
        highs += [room, room, room**2]
    return rows, highs, len(terms)
