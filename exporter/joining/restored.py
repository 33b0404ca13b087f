"""Which constant of the expected file a stored constant was rounded from.

A number of a format stands for what is up to half a step away. A constant is restored where one of
the expected file's lies within that everywhere, transposed or not, and no other does; or, where a
quantiser did more than round (a range that is cut, errors that are spread), where one is about a
step away and all others several times as far. In doubt it stays as it is stored.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Stored constants by key.

    Attributes:
        arrays: the expected file's, laid out as the stored one is.
        shifted: name of the stored constant -> steps by which it stands beside the expected one
            on average: a wrong zero point moves nothing where what is multiplied has mean zero.
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    shifted: Mapping[str, float] = field(default_factory=dict)


def restore(expected: GraphIndex, stored: Mapping[str, Stored]) -> Restored:
    """Find the constants that others were rounded from."""
    bank: dict[int, list[np.ndarray]] = {}
    wanted = {held.values.size for held in stored.values()}
    for name, tensor in expected.initializers.items():
        if int(np.prod(tensor.dims, dtype=np.int64)) in wanted:
            array = expected.array(name)
            if array.dtype.kind == "f":
                bank.setdefault(array.size, []).append(array)
    arrays: dict[str, np.ndarray] = {}
    shifted: dict[str, float] = {}
    for key, held in stored.items():
        found = _source(held, bank.get(held.values.size, ()))
        if found is None:
            continue
        arrays[key] = found
        beside = _beside(held, found)
        if abs(beside) > _SHIFTED:
            shifted[held.name] = beside
    return Restored(arrays=arrays, shifted=shifted)


def _source(held: Stored, bank: Iterable[np.ndarray]) -> np.ndarray | None:
    rated: list[tuple[float, bool, np.ndarray]] = []
    for array in bank:
        for laid in _layouts(array, held.values.shape):
            far = _far(held, laid)
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
    return best[2]


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


def _far(held: Stored, array: np.ndarray) -> tuple[float, bool] | None:
    """Rms distance in steps, and whether it is within half a step everywhere; None if far."""
    size = held.values.size
    if size > 4 * _SAMPLE:
        at = np.linspace(0, size - 1, _SAMPLE).astype(np.int64)
        place = np.unravel_index(at, held.values.shape)
        apart = _apart(held.values[place], held.steps[place], held.ends[place], array[place])
        if _rms(apart) > 2.0 * _ABOUT:
            return None
    apart = _apart(held.values, held.steps, held.ends, array)
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


def _beside(held: Stored, array: np.ndarray) -> float:
    if held.values.size < _MANY:
        return 0.0
    apart = _apart(held.values, held.steps, held.ends, array)
    return -float(np.mean(np.clip(apart, -4.0, 4.0)))
