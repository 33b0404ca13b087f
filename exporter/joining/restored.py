"""Which constant of the expected file a stored constant was rounded from.

A number of a format stands for what is up to half a step away. A constant is restored where one of
the expected file's lies within that everywhere, transposed or not, and no other does; or, where a
quantiser did more than round (a range that is cut, errors that are spread), where one is about a
step away and all others several times as far. In doubt it stays as it is stored.

    gain    |   stored = 1.05 * expected      within half a step of that, and of nothing else

A scale that is wrong moves all numbers alike. By more than a step and a half such a constant is
not restored, for what it computes is something else; it is known all the same.

What is restored is used to find out which value is which, and never to judge: the file itself is
run for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from exporter.graph.index import GraphIndex
from exporter.graph.lowered.dequantise import Stored

_HALF = 0.5 + 1e-3
"""Steps; float32 has rounded the step itself."""
_ABOUT = 1.5
"""Steps (rms) to a constant that was not just rounded."""
_FURTHER = 4.0
_ALIKE = 1e-6
_SAMPLE = 2048
_MANY = 64
_SHIFTED = 0.75
"""Steps by which a mean may move: rounding moves it by 0.3 / sqrt(elements)."""
_GAIN = 0.02
"""By how much all numbers may be larger or smaller alike; errors that a quantiser spreads over
others move this by less."""
_SURE = 8.0
"""Standard deviations that a gain has to stand out of its rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Stored constants by key.

    Attributes:
        arrays: the expected file's, laid out as the stored one is.
        shifted: name of the stored constant -> steps by which it stands beside the expected one
            on average: a wrong zero point moves nothing where what is multiplied has mean zero.
        gains: name of the stored constant -> how many times the expected one it is, where that
            is not once.
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    shifted: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)

    def problem(self, names: Iterable[str], *, agrees: bool = False) -> str:
        """What is wrong with the first of some stored constants that is; "" where none is.

        Args:
            agrees: a value behind them, computed with what they stand for, is the expected
                file's own: what a constant is times another one, something else takes back.
        """
        known = {key.partition("/")[0] for key in self.arrays}
        for name in names:
            if name in self.shifted:
                return (
                    f"the weight '{name}' stands {abs(self.shifted[name]):.3g} of its steps beside"
                    " the other file's on average: its zero point or its scale is wrong"
                )
            if name in self.gains and (name in known or not agrees):
                return (
                    f"the weight '{name}' is {self.gains[name]:.3g} times the other file's:"
                    " its scale is wrong"
                )
        return ""


def restore(expected: GraphIndex, stored: Mapping[str, Stored]) -> Restored:
    """Find the constants that others were rounded from."""
    bank: dict[int, list[np.ndarray]] = {}
    wanted = {weight.values.size for weight in stored.values()}
    for name, tensor in expected.initializers.items():
        if int(np.prod(tensor.dims, dtype=np.int64)) in wanted:
            array = expected.array(name)
            if array.dtype.kind == "f":
                bank.setdefault(array.size, []).append(array)
    arrays: dict[str, np.ndarray] = {}
    shifted: dict[str, float] = {}
    gains: dict[str, float] = {}
    for key, weight in stored.items():
        candidates = bank.get(weight.values.size, ())
        source, rounded = _source(weight, candidates) or (None, False)
        gain = None
        if source is None:
            gain = _scaled_source(weight, candidates)
        elif not rounded:  # few steps keep less than all of what lies between them
            gain = _wrong(_gains(weight, source))
        if gain is not None:
            gains[weight.name] = gain
        if source is None:
            continue
        arrays[key] = source
        beside = _beside(weight, source)
        if abs(beside) > _SHIFTED:
            shifted[weight.name] = beside
    return Restored(arrays=arrays, shifted=shifted, gains=gains)


def _source(stored: Stored, bank: Iterable[np.ndarray]) -> tuple[np.ndarray, bool] | None:
    """The constant, and whether all of it was rounded to what is next to it."""
    rated: list[tuple[float, bool, np.ndarray]] = []
    for array in bank:
        for laid in _layouts(array, stored.values.shape):
            far = _far(stored, laid)
            if far is not None:
                rated.append((far[0], far[1], laid))
    if not rated:
        return None
    rated.sort(key=lambda one: one[0])
    within = [one for one in rated if one[1]]
    best = within[0] if within else rated[0]
    if not within and best[0] > _ABOUT:
        return None
    for other in rated:
        rival = other[1] if within else other[0] < _FURTHER * best[0]
        if rival and not _one(best[2], other[2]):
            return None
    return best[2], best[1]


def _scaled_source(stored: Stored, bank: Iterable[np.ndarray]) -> float | None:
    """By how much a constant is one of the expected file's all the same; None where by none."""
    scales: list[tuple[float | None, int]] = []
    for array in bank:
        for laid in _layouts(array, stored.values.shape):
            gains = _gains(stored, laid)
            if gains is None or _wrong(gains) is None or float(gains[0].min()) <= 0:
                continue
            far = _far(stored, np.asarray(laid, np.float64) * gains[0])
            # Rounding alone moves numbers by 0.3 steps; the gain is known far better than that.
            if far is not None and far[0] <= _HALF:
                scales.append((_wrong(gains), id(array)))
    return scales[0][0] if len({array for _, array in scales}) == 1 else None


def _gains(stored: Stored, array: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """How many times a constant a stored one is, of the numbers that share a step.

    Returns:
        the gain at every element, and how far from 1 it has to be to stand out of its rounding;
        None where too few numbers share a step to tell.
    """
    shape = stored.values.shape
    steps = np.broadcast_to(stored.steps, shape).reshape(-1)
    wanted = np.where(np.broadcast_to(stored.ends, shape) == 0, array, 0.0).astype(np.float64)
    if not steps.size or not np.isfinite(wanted).all():
        return None
    if steps.min() == steps.max():
        group, count = np.zeros(steps.size, np.int64), 1
    else:
        kinds, group = np.unique(steps, return_inverse=True)
        count = len(kinds)
    flat = wanted.reshape(-1)
    power = np.bincount(group, flat * flat, count)
    if np.bincount(group, flat != 0, count).min() < _MANY or power.min() <= 0:
        return None
    gains = np.bincount(group, flat * stored.values.reshape(-1), count) / power
    sizes = np.zeros(count)
    sizes[group] = steps
    spread = sizes * np.sqrt(1.0 / 12.0 / power)
    return gains[group].reshape(shape), np.maximum(_GAIN, _SURE * spread)[group].reshape(shape)


def _wrong(gains: tuple[np.ndarray, np.ndarray] | None) -> float | None:
    """The gain that is furthest from 1 of those that stand out; None where none does."""
    if gains is None:
        return None
    beyond = np.abs(gains[0] - 1.0) / gains[1]
    worst = int(np.argmax(beyond))
    return float(gains[0].reshape(-1)[worst]) if beyond.reshape(-1)[worst] > 1.0 else None


def _one(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether it matters not at all which of two constants it is."""
    if left is right or np.array_equal(left, right):
        return True
    return left.size < _MANY // 8 and bool(np.allclose(left, right, rtol=_ALIKE, atol=0.0))


def _layouts(array: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The constant as something of that shape may hold it."""
    if array.shape == shape:
        yield array
    elif [n for n in array.shape if n != 1] == [n for n in shape if n != 1]:
        yield array.reshape(shape)
    squeezed = array.reshape([n for n in array.shape if n != 1])
    wanted = [n for n in shape if n != 1]
    if not 2 <= squeezed.ndim <= 4 or sorted(squeezed.shape) != sorted(wanted):
        return
    for perm in permutations(range(squeezed.ndim)):
        turned = squeezed.transpose(perm)
        if perm != tuple(range(squeezed.ndim)) and list(turned.shape) == wanted:
            yield turned.reshape(shape)


def _far(stored: Stored, array: np.ndarray) -> tuple[float, bool] | None:
    """Rms distance in steps, and whether it is within half a step everywhere; None if far."""
    size = stored.values.size
    if size > 4 * _SAMPLE:
        at = np.linspace(0, size - 1, _SAMPLE).astype(np.int64)
        place = np.unravel_index(at, stored.values.shape)
        apart = _apart(stored.values[place], stored.steps[place], stored.ends[place], array[place])
        if _rms(apart) > 2.0 * _ABOUT:
            return None
    apart = _apart(stored.values, stored.steps, stored.ends, array)
    far = _rms(apart)
    if far > _FURTHER * _ABOUT:
        return None
    return far, bool(np.abs(apart).max(initial=0.0) <= _HALF)


def _apart(
    values: np.ndarray, steps: np.ndarray, ends: np.ndarray, array: np.ndarray
) -> np.ndarray:
    """Distance in steps; nothing where the format has no numbers further out."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        beyond = np.asarray(array, np.float64) - values
        apart = np.where(beyond == 0, 0.0, beyond / np.where(steps == 0, 1e-30, steps))
    apart[np.isnan(apart)] = np.inf
    return np.where(apart * ends > 0, 0.0, apart)


def _rms(apart: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(apart)))) if apart.size else 0.0


def _beside(stored: Stored, array: np.ndarray) -> float:
    if stored.values.size < _MANY:
        return 0.0
    apart = _apart(stored.values, stored.steps, stored.ends, array)
    return -float(np.mean(np.clip(apart, -4.0, 4.0)))
