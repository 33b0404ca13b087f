"""Find the values of one file that agree with a value of another, up to transpose and reshape.

A sketch (of every set of inputs: rms, mean, mean magnitude) is the same however a value is laid
out, and two values cannot be nearer to each other than their sketches are. Those that are near in
all of them are held against each other element by element.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from exporter.joining.joined import AS_IT_IS, Layout

_MOST_AXES = 5
_MOST_LOOKED_AT = 12
_SOME = 1 << 12
"""Elements that show at once that a value is not laid out in some way."""
_SAFE = (1e-100, 1e100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A value that agrees: its name, how it is laid out, the relative rms distance."""

    name: str
    layout: Layout
    distance: float


@dataclass(frozen=True, slots=True)
class ValueFigures:
    """Of one value: family of its dtype, elements per set of inputs, figures per set."""

    family: str
    elements: tuple[int, ...]
    figures: np.ndarray


def sketch(arrays: Sequence[np.ndarray]) -> ValueFigures | None:
    """The sketch of a value; None where there is nothing in it to tell it from others.

    Args:
        arrays: one per set of inputs.
    """
    family = _family(arrays[0].dtype)
    if not family or any(array.size == 0 for array in arrays):
        return None
    rows, varied = [], False
    for array in arrays:
        flat = np.asarray(array, np.float64).reshape(-1)
        high, low = flat.max(), flat.min()
        values_in_use = flat if np.isfinite((high, low)).all() else flat[np.isfinite(flat)]
        if values_in_use is not flat and values_in_use.size:
            high, low = values_in_use.max(), values_in_use.min()
        if not values_in_use.size or (peak := float(max(high, -low))) == 0.0:
            return None
        # Squares of other numbers leave the range of float64.
        scale = 1.0 if _SAFE[0] < peak < _SAFE[1] else peak
        values_in_use = values_in_use if scale == 1.0 else values_in_use / scale
        rms = float(np.sqrt(np.dot(values_in_use, values_in_use) / values_in_use.size))
        figures = (
            np.log(scale) + np.log(rms),
            values_in_use.mean() / rms,
            np.abs(values_in_use).mean() / rms,
        )
        rows.append(figures)
        varied = varied or high != low or values_in_use.size != flat.size
    figures = np.array(rows)
    # Of one number, or one number repeated, that is the same whatever goes in, nothing is known.
    moved = any(not np.array_equal(figures[0], row) for row in figures[1:])
    same_sizes = len({array.size for array in arrays}) == 1
    if not varied and (family != "f" or not (moved and same_sizes)):
        return None
    return ValueFigures(family, tuple(array.size for array in arrays), figures)


class Bank:
    """The values of one file, to be asked for those that agree with another file's.

    Args:
        values: name, sketch and arrays.
    """

    def __init__(self, values: Iterable[tuple[str, ValueFigures, Sequence[np.ndarray]]]):
        self._arrays: dict[str, Sequence[np.ndarray]] = {}
        self._groups: dict[tuple, tuple[list[str], list[np.ndarray]]] = {}
        for name, told, arrays in values:
            self._arrays[name] = arrays
            names, figures = self._groups.setdefault((told.family, told.elements), ([], []))
            names.append(name)
            figures.append(told.figures)
        self._stacked = {key: np.stack(told[1]) for key, told in self._groups.items()}

    def near(
        self,
        figures: ValueFigures,
        arrays: Sequence[np.ndarray],
        within: float,
        same: str | None = None,
    ) -> list[Match]:
        """Values within a relative rms distance, nearest first.

        Args:
            same: the value of the bank that the arrays are, where it is known to be one.
        """
        key = (figures.family, figures.elements)
        if key not in self._groups:
            return []
        apart = np.abs(self._stacked[key] - figures.figures).max(axis=(1, 2))
        # Each figure moves by little more than twice the distance at most.
        order = np.argsort(apart, kind="stable")
        limit = 2.5 * within + 1e-12
        matches = []
        for at in order[:_MOST_LOOKED_AT]:
            if apart[at] > limit:
                break
            name = self._groups[key][0][at]
            match = (AS_IT_IS, 0.0) if name == same else closest(self._arrays[name], arrays)
            if match is not None and match[1] <= within:
                matches.append(Match(name=name, layout=match[0], distance=match[1]))
        return sorted(matches, key=lambda match: match.distance)


def closest(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], good: float = 1e-6
) -> tuple[Layout, float] | None:
    """The layout in which two values agree best, and how well; None where no layout fits."""
    if any(a.size != b.size for a, b in zip(expected, actual, strict=True)):
        return None
    best = (AS_IT_IS, _apart(expected, actual, AS_IT_IS))
    if best[1] <= good:
        return best
    first = np.asarray(expected[0], np.float64).reshape(-1)
    squares = float(np.dot(first, first))
    for perm in _perms(expected):
        layout = Layout(perm)
        if _some_apart(expected[0], actual[0], layout) > best[1] ** 2 * squares:
            continue  # a part of the elements is further apart than all of them have to be
        distance = _apart(expected, actual, layout)
        if distance < best[1]:
            best = (layout, distance)
    return best


def _some_apart(expected: np.ndarray, actual: np.ndarray, layout: Layout) -> float:
    """The sum of squares of the differences of some elements, spread over all."""
    step = max(1, expected.size // _SOME)
    # Of a view in another order the iterator takes these elements, and copies no others.
    ours = np.asarray(layout.turned(expected).flat[::step], np.float64)
    theirs = np.asarray(actual.reshape(-1)[::step], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        gap = ours - theirs
        return float(np.dot(gap, gap))


def _perms(arrays: Sequence[np.ndarray]) -> Iterable[tuple[int, ...]]:
    axes = {sum(size != 1 for size in array.shape) for array in arrays}
    if len(axes) != 1 or not 2 <= (count := axes.pop()) <= _MOST_AXES:
        return ()
    return (perm for perm in permutations(range(count)) if perm != tuple(range(count)))


def _apart(expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], layout: Layout) -> float:
    worst = 0.0
    for left, right in zip(expected, actual, strict=True):
        worst = max(worst, distance(layout.apply(left, right.shape), right))
        if worst > 1.0:
            break
    return worst


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """Relative rms distance of two arrays of one shape; infinite where infinities differ."""
    a, b = np.asarray(left, np.float64).reshape(-1), np.asarray(right, np.float64).reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        size = float(np.sqrt(np.dot(a, a)))
        gap = a - b
        apart = float(np.sqrt(np.dot(gap, gap)))
    if _SAFE[0] < size < _SAFE[1] and np.isfinite(apart):
        return apart / size
    finite = np.isfinite(a)
    if not finite.all() or not np.isfinite(b).all():
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        a, b = a[finite], b[finite]
        if not np.isfinite(b).all():
            return float("inf")
    scale = float(np.abs(a).max(initial=0.0))
    if scale == 0.0:
        return 0.0 if not b.any() else float("inf")
    with np.errstate(over="ignore"):
        apart = float(np.linalg.norm((a - b) / scale))
    return apart / float(np.linalg.norm(a / scale))


def _family(dtype: np.dtype) -> str:
    if dtype.kind == "b":
        return "b"
    if dtype.kind in "iu":
        return "i"
    floating = dtype.kind == "f" or "float" in dtype.name
    return "f" if floating else ""
