"""How far a discrete decision was from going the other way.

Comparisons and choices (argmax, topk, sort) turn numbers into decisions. When two correct float32
runs decide differently, the float64 margin at that place is as small as the rounding error of what
was compared; otherwise somebody is wrong. A choice between exactly equal values has no margin at
all: which of them comes first is not defined, unless the op promises to be stable.
An angle decides as well: where x is negative, the sign of y says whether it is near pi or near -pi.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from exporter.graph.program import Op, Ref
from exporter.interpret.evaluate import Lookup, widen
from exporter.interpret.sliced_linear import LinearSlices

_COMPARISONS = frozenset({"ge", "gt", "le", "lt", "eq", "ne"})
# Position of the axis among the arguments, and the axis where none is given.
_CHOICES: dict[str, tuple[int, int | None]] = {
    "argmax": (1, None),
    "argmin": (1, None),
    "argsort": (1, -1),
    "max": (1, -1),
    "min": (1, -1),
    "median": (1, -1),
    "kthvalue": (2, -1),
    "topk": (2, -1),
    "sort": (1, -1),
}
_SECOND = frozenset({"max", "min", "median", "kthvalue", "topk", "sort"})
"""Choices that give values and, second, the indices."""
_SEVERAL = frozenset({"topk", "sort", "argsort"})
"""Choices that give more than one place along the axis."""

ANGLES = frozenset({"aten.atan2.default"})
"""Operators that give a number and decide all the same: it jumps by a full turn where y changes its
sign below x = 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Margin of each element of a discrete value.

    Attributes:
        distance: float64, shape of the decision: distance from the other decision. NaN where the
            other decision cannot be right whatever the rounding (a place that does not exist, or
            that is chosen twice).
        noise: largest distance between float32 and float64 PyTorch in what was decided on.
        ties: between equal values either decision is right.
        sources: names of the floating values that were decided on.
    """

    distance: np.ndarray
    noise: float
    ties: bool = False
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which values an op chooses among.

    Attributes:
        source: name of the values. axis: along which; None: among all of them.
        keep: the axis is kept, with one element or with several.
        several: more than one of them, in an order.
        lowest: the least of them, not the largest.
        ties: the op makes no promise about equal values.
    """

    source: str
    axis: int | None
    keep: bool
    several: bool
    lowest: bool
    ties: bool


def choice_of(op: Op, producer: Callable[[str], Op | None] | None = None) -> Selection | None:
    """The choice whose indices ``op`` gives; None for every other op.

    Args:
        producer: finds the op behind a name; without it, indices that come as the second of two
            results are not recognised.
    """
    if op.target == "operator.getitem":
        if producer is None or op.args[1] != 1 or not isinstance(op.args[0], Ref):
            return None
        op_behind = producer(op.args[0].name)
        if op_behind is None or _plain_name(op_behind) not in _SECOND:
            return None
        op = op_behind
    elif _plain_name(op) in _SECOND:
        return None
    name = _plain_name(op)
    if name not in _CHOICES or not op.args or not isinstance(op.args[0], Ref):
        return None
    position, default = _CHOICES[name]
    if name in ("sort", "argsort") and op.target.endswith(".stable"):
        axis = op.kwargs.get("dim", default)
        ties = op.kwargs.get("stable") is not True
    else:
        axis = op.args[position] if len(op.args) > position else op.kwargs.get("dim", default)
        ties = True
    after = position + 1
    keep = op.args[after] if len(op.args) > after else op.kwargs.get("keepdim", False)
    several = name in _SEVERAL
    return Selection(
        source=op.args[0].name,
        axis=None if axis is None else int(axis),
        keep=several or bool(keep),
        several=several,
        lowest=name in ("argmin", "min"),
        ties=ties,
    )


def decides(op: Op) -> bool:
    """True for comparisons and choices, the ops that may have a margin."""
    return _plain_name(op) in _COMPARISONS or _plain_name(op) in _CHOICES


def sources_of(op: Op, producer: Callable[[str], Op | None] | None = None) -> tuple[str, ...]:
    """Names of the values on which an op decides; none for an op that does not."""
    choice = choice_of(op, producer)
    if choice is not None:
        return (choice.source,)
    if _plain_name(op) not in _COMPARISONS:
        return ()
    return tuple(arg.name for arg in op.args[:2] if isinstance(arg, Ref))


def margin_of(
    op: Op,
    reference: Lookup,
    truth: Lookup,
    slices: Mapping[str, LinearSlices] | None = None,
    producer: Callable[[str], Op | None] | None = None,
) -> Callable[..., Margin] | None:
    """A function that computes the margins of ``op``; None if it takes no decision on numbers.

    The margin of an angle is how far its y is from the other sign; NaN where the sign is all one.

    The function takes what another run decided. The margin of a choice is then the distance
    between the value that it chose and the one that PyTorch chose; without another run it is the
    gap to the next candidate.

    Args:
        reference, truth: the float32 and the free float64 value behind a name.
        slices: values whose ``truth`` is too large to be held at once.
        producer: see :func:`choice_of`.
    """
    choice = choice_of(op, producer)
    if choice is not None:
        return _margin_of_choice(op, choice, reference, truth, slices or {})
    if op.target in ANGLES:
        return _margin_of_angle(op, reference, truth)
    floats = [name for name in sources_of(op, producer) if _is_float(reference(name))]
    if not floats:
        return None
    return lambda other=None: Margin(
        distance=_difference(op.args[0], op.args[1], truth),
        noise=max(_distance(reference(name), truth(name)) for name in floats),
        sources=tuple(floats),
    )


def _plain_name(op: Op) -> str:
    return op.target.split(".")[1] if op.target.startswith("aten.") else ""


def _margin_of_angle(op: Op, reference: Lookup, truth: Lookup) -> Callable[..., Margin] | None:
    names = [arg.name for arg in op.args[:2] if isinstance(arg, Ref)]
    if len(names) != 2 or not all(_is_float(reference(name)) for name in names):
        return None

    def compute(other: np.ndarray | None = None) -> Margin:
        y, x = (widen(truth(name)) for name in names)
        jumps = torch.where(x < 0, y.abs(), torch.nan)
        noise = _distance(reference(names[0]), y)
        return Margin(distance=jumps.numpy(), noise=noise, sources=(names[0],))

    return compute


def _margin_of_choice(
    op: Op,
    choice: Selection,
    reference: Lookup,
    truth: Lookup,
    slices: Mapping[str, LinearSlices],
) -> Callable[..., Margin] | None:
    source = reference(choice.source)
    if not isinstance(source, torch.Tensor) or source.is_complex() or not source.numel():
        return None
    last = choice.axis in (-1, source.dim() - 1)
    sliced = slices.get(choice.source)

    def compute(other: np.ndarray | None = None) -> Margin:
        if sliced is not None and last and not choice.several:
            return _margin_by_rows(op, choice, sliced, source, reference, other)
        exact = widen(truth(choice.source))
        if other is None:
            distance = _gap(exact, choice, reference(op.name) if choice.several else None)
        else:
            distance = _chosen_apart(exact, choice, reference(op.name), other)
        return Margin(
            distance=distance,
            noise=_distance(source, exact),
            ties=choice.ties,
            sources=(choice.source,),
        )

    return compute


def _margin_by_rows(
    op: Op,
    choice: Selection,
    slices: LinearSlices,
    source: torch.Tensor,
    reference: Lookup,
    other: np.ndarray | None,
) -> Margin:
    """The margin of a choice within each row, whose float64 values come some rows at a time."""
    gaps, noise, start = [], 0.0, 0
    rowwise = replace(choice, axis=-1, keep=False)
    ours = reference(op.name).reshape(-1) if other is not None else None
    theirs = None if other is None else np.asarray(other).reshape(-1)
    for rows, exact in slices.truth_by_rows(source):
        if ours is None or theirs is None:
            gaps.append(_gap(exact, rowwise, None))
        else:
            here = slice(start, start + len(exact))
            gaps.append(_chosen_apart(exact, rowwise, ours[here], theirs[here]))
        start += len(exact)
        noise = max(noise, _distance(rows, exact))
    shape = (*source.shape[:-1], 1) if choice.keep else tuple(source.shape[:-1])
    return Margin(
        distance=np.concatenate(gaps).reshape(shape),
        noise=noise,
        ties=choice.ties,
        sources=(choice.source,),
    )


def _chosen_apart(
    exact: torch.Tensor, choice: Selection, ours: torch.Tensor, theirs: np.ndarray
) -> np.ndarray:
    """Distance between the values at two choices of places; NaN where one is impossible."""
    axis = choice.axis
    other = torch.from_numpy(np.array(theirs, dtype=np.int64)).reshape(ours.shape)
    mine = ours.to(torch.int64)
    if axis is None:
        exact, mine, other = exact.flatten(), mine.reshape(1), other.reshape(1)
        axis = 0
    elif not choice.keep and exact.dim():
        mine, other = mine.unsqueeze(axis), other.unsqueeze(axis)
    if not exact.dim():
        exact, mine, other, axis = exact.reshape(1), mine.reshape(1), other.reshape(1), 0
    size = exact.shape[axis]
    impossible = (other < 0) | (other >= size)
    inside = other.clamp(0, size - 1)
    first, second = exact.gather(axis, mine), exact.gather(axis, inside)
    # The difference of two equal infinities is NaN, and they are equal all the same.
    apart = torch.where(first == second, 0.0, (first.double() - second.double()).abs())
    if choice.several:
        impossible |= _repeated(inside, axis)
    apart[impossible] = torch.nan
    return apart.reshape(ours.shape).numpy()


def _repeated(places: torch.Tensor, axis: int) -> torch.Tensor:
    """True where a place is chosen more than once along the axis."""
    ordered, order = places.sort(dim=axis)
    count = places.shape[axis]
    if count < 2:
        return torch.zeros_like(places, dtype=torch.bool)
    same = ordered.narrow(axis, 1, count - 1) == ordered.narrow(axis, 0, count - 1)
    none = torch.zeros_like(ordered.narrow(axis, 0, 1), dtype=torch.bool)
    twice = torch.cat([same, none], axis) | torch.cat([none, same], axis)
    return torch.zeros_like(twice).scatter(axis, order, twice)


def _gap(values: torch.Tensor, choice: Selection, chosen: torch.Tensor | None) -> np.ndarray:
    """Distance to the next candidate; of several in a row, to the nearest of their neighbours."""
    axis = choice.axis
    if axis is None or not values.dim():
        values, axis = values.flatten(), 0
    values = -values.double() if choice.lowest else values.double()
    if chosen is not None:
        apart = values.gather(axis, chosen.to(torch.int64)).diff(dim=axis).abs()
        edge = torch.full_like(values.narrow(axis, 0, 1), torch.inf)
        return torch.minimum(torch.cat([apart, edge], axis), torch.cat([edge, apart], axis)).numpy()
    best = torch.topk(values, min(2, values.shape[axis]), dim=axis).values
    gap = best.select(axis, 0) - best.select(axis, -1)
    return (gap.unsqueeze(axis) if choice.keep and choice.axis is not None else gap).numpy()


def _difference(left: Any, right: Any, truth: Lookup) -> np.ndarray:
    sides = [truth(a.name) if isinstance(a, Ref) else a for a in (left, right)]
    first, second = (widen(torch.as_tensor(side)) for side in sides)
    return (first - second).abs().numpy()


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _distance(reference: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest distance where it is finite."""
    difference = (widen(reference).double() - exact.double()).abs()
    finite = difference[torch.isfinite(difference)]
    return float(finite.max()) if finite.numel() else 0.0
