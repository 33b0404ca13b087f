"""Sizes that a user's own model takes, found by running it: a table of positions has an end.

An axis without declared limits is tried at its smallest size and at twice the size at which it is
traced. Where the model raises, the last size that it takes is searched by halving, and believed
only if the model takes its neighbours on one side and none of those on the other: a model that
takes multiples of four has no such limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from exporter.core.errors import ModelError, first_line
from exporter.core.tensors import Axis
from exporter.models.user_code import place_of

_NEIGHBOURS = 3

Run = Callable[[Mapping[str, int]], object]
"""Runs the model at sizes of its axes; raises ``ModelError`` where it does not take them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimit:
    """Sizes that a model takes of an axis.

    Attributes:
        minimum, maximum: both included; None where nothing stopped it.
        where: ``file:line`` that stopped the model beyond; "" when unknown.
        problem: what it said there.
    """

    axis: str
    minimum: int | None = None
    maximum: int | None = None
    where: str = ""
    problem: str = ""

    def note(self) -> str:
        """For a report."""
        if self.minimum is not None and self.maximum is not None:
            sizes = f"{self.minimum} to {self.maximum}"
        elif self.maximum is not None:
            sizes = f"at most {self.maximum}"
        else:
            sizes = f"at least {self.minimum}"
        at = f" at {self.where}" if self.where else ""
        why = f" ({self.problem})" if self.problem else ""
        return f"takes {sizes} {self.axis}: found in the model{at}{why}"


def find_limits(
    run: Run, axes: Mapping[str, Axis], sizes: Mapping[str, int]
) -> tuple[SizeLimit, ...]:
    """Limits of each axis that are narrower than declared.

    Args:
        run: the model; at ``sizes`` it runs.
        axes: with what is declared of them. sizes: at which it is traced.
    """
    limits: list[SizeLimit] = []
    for name, axis in axes.items():
        lowest = max(axis.minimum, 1)
        highest = 2 * sizes[name] if axis.maximum is None else min(2 * sizes[name], axis.maximum)
        step = axis.multiple_of
        for end in (-(-lowest // step), highest // step):
            limit = _limit(run, name, sizes, end, step)
            if limit is not None:
                limits.append(limit)
    return tuple(limits)


def _limit(
    run: Run, name: str, sizes: Mapping[str, int], end: int, step: int = 1
) -> SizeLimit | None:
    """The last size between the traced one and ``end``; None when the model takes ``end``.

    Args:
        end: in units of ``step``, of which every size is a multiple.
    """

    def stopped(size: int) -> ModelError | None:
        try:
            run({**sizes, name: size * step})
        except ModelError as error:
            return error
        return None

    first = sizes[name] // step
    inside, outside = first, end
    reason = stopped(end) if end != inside else None
    if reason is None:
        return None
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        problem = stopped(middle)
        if problem is None:
            inside = middle
        else:
            outside, reason = middle, problem
    away = 1 if end > inside else -1
    beyond = [inside + away * step for step in range(2, _NEIGHBOURS + 1)]
    before = [inside - away * step for step in range(1, _NEIGHBOURS)]
    if any(stopped(size) is None for size in beyond if size > 0 and away * (end - size) > 0):
        return None
    if any(stopped(size) is not None for size in before if away * (size - first) > 0):
        return None
    bounds = {"maximum" if away > 0 else "minimum": inside * step}
    cause = reason.__cause__ or reason
    return SizeLimit(axis=name, where=place_of(cause), problem=first_line(cause, 120), **bounds)


def limited(axes: Mapping[str, Axis], limits: tuple[SizeLimit, ...]) -> dict[str, Axis]:
    """The axes with the limits that were found."""
    narrowed = dict(axes)
    for limit in limits:
        axis = narrowed[limit.axis]
        if limit.minimum is not None:
            axis = replace(axis, minimum=max(axis.minimum, limit.minimum))
        if limit.maximum is not None:
            highest = limit.maximum if axis.maximum is None else min(axis.maximum, limit.maximum)
            axis = replace(axis, maximum=highest)
        narrowed[limit.axis] = axis
    return narrowed
