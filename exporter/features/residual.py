"""How far features are from those that a front end would give, as a share of their own spread."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporter.features.front_end import DRAWS, FrontEnd, ImpossibleError, Material

IMPOSSIBLE = float("inf")
ROUNDING = 1e-4
"""Residual that float32 may leave: ten times what programs were seen to leave."""
_TINY = 1e-30
_BANDS = 8
_LIKE_NOISE = (0.6, 1.7)
_LOUD_AGREES = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Features beside a front end's.

    Attributes:
        residual: root mean square of the difference over the deviation of the features.
        unexplained: what of it is not as the noise of the front end's dither is, from quiet values
            to loud ones; without dither it is the residual.
        frames: by how many frames theirs are more than the front end's, behind the first.
        like_noise: it has dither, and the difference is everywhere as large as that of two draws.
    """

    residual: float
    unexplained: float
    frames: int
    like_noise: bool = False

    @property
    def score(self) -> float:
        """What the search makes small; a frame too many counts a little."""
        return self.unexplained * (1 + 0.01 * min(abs(self.frames), 10))

    def explained(self, enough: float) -> bool:
        """Nothing is left to look for, but for rounding or for noise."""
        return self.like_noise or self.residual <= enough


_NONE = Fit(residual=IMPOSSIBLE, unexplained=IMPOSSIBLE, frames=0)


def compared(theirs: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Features ``[T, D]`` in the domain in which they are compared: that of a logarithm."""
    if front_end.log != "none" or front_end.normalise != "none" or front_end.statistics != "none":
        return theirs
    return np.log(np.maximum(theirs, _TINY))


def overlap(theirs: np.ndarray, ours: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Both from their common first frame to the last that both have.

    Args:
        first: negative: theirs have so many frames in front that the front end does not give.
    """
    theirs = theirs[-first:] if first < 0 else theirs
    count = min(len(theirs), len(ours))
    return theirs[:count], ours[:count]


def fit(theirs: np.ndarray, front_end: FrontEnd, material: Material) -> Fit:
    """Hold features ``[T, D]`` against a front end."""
    try:
        ours = material.features(front_end)
    except ImpossibleError:
        return _NONE
    first = front_end.first_frame
    a, b = overlap(theirs, ours, first)
    if a.shape != b.shape or len(a) < 2:
        return _NONE
    a, b = compared(a, front_end), compared(b, front_end)
    spread = float(a.std()) or 1.0
    squares = (a - b) ** 2 / spread**2
    residual = unexplained = float(np.sqrt(squares.mean()))
    if not np.isfinite(residual):
        return _NONE
    like_noise = False
    if front_end.dither:
        unexplained, like_noise = _beside_noise(squares, spread, theirs, front_end, material)
    frames = len(theirs[-first:] if first < 0 else theirs) - len(ours)
    return Fit(residual=residual, unexplained=unexplained, frames=frames, like_noise=like_noise)


def _beside_noise(
    squares: np.ndarray, spread: float, theirs: np.ndarray, p: FrontEnd, material: Material
) -> tuple[float, bool]:
    """What of the squares is not the noise's, and whether all is as large as noise makes it.

    Noise shows in quiet values, another window or band everywhere: values are put into bands by
    how loud they are without noise, and each band has a size that the noise gives it.
    """
    first = p.first_frame
    draws = [overlap(theirs, material.features(p, draw=k), first)[1] for k in range(DRAWS)]
    variance = np.var([compared(draw, p) for draw in draws], axis=0, ddof=1) / spread**2
    clean = overlap(theirs, material.features(replace(p, dither=0.0)), first)[1]
    edges = np.quantile(clean, np.linspace(0, 1, _BANDS + 1)[1:-1])
    band = np.digitize(clean, edges)
    energy = np.array(
        [squares[band == k].mean() if (band == k).any() else 0 for k in range(_BANDS)]
    )
    noise = np.array(
        [variance[band == k].mean() if (band == k).any() else 0 for k in range(_BANDS)]
    ) * (1 + 1 / DRAWS)
    counted = noise > ROUNDING**2
    ratios = energy[counted] / noise[counted]
    rest = energy[~counted]
    if energy[-1] > _LOUD_AGREES**2:  # not the same sound at all: noise explains anything
        return float(np.sqrt(squares.mean())), False
    low, high = _LIKE_NOISE
    like = bool(
        counted.any()
        and ((ratios > low) & (ratios < high)).all()
        and (rest <= 4 * ROUNDING**2).all()
    )
    return float(np.sqrt(np.abs(energy - noise).mean())), like
