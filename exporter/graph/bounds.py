"""Sizes of an axis for which a capture's guards hold, found by trying them.

torch solves conditions on sizes as equations, and gives up on many that are true of every size
(``(n - 1) // 2 == (n - 3) // 2 + 1``). Here they are computed, size by size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from exporter.core.tensors import Axis
from exporter.graph.guards import Guard

_NEAR = 64
_FAR = 1 << 20


def bounded(
    guards: Sequence[Guard],
    shapes: Mapping[str, Sequence[int | str]],
    sizes: Mapping[str, int],
    axis: Axis,
) -> tuple[Axis, str]:
    """An axis with the sizes for which all guards hold while the others stay.

    Args:
        shapes: of each input, with names of axes.
        sizes: of every axis at the example, for which all guards hold.

    Returns:
        the axis, and ``file:line`` that asks for what the next size beyond does not have; "" when
        nothing is known of it, or nothing stops it.
    """
    example = sizes[axis.name]
    about = [guard for guard in guards if _speaks_of(guard, shapes, axis.name)]
    broken: dict[int, Guard | None] = {}

    def holds(size: int) -> bool:
        if size not in broken:
            broken[size] = _first_broken(about, shapes, {**sizes, axis.name: size})
        return broken[size] is None

    worth = {*_worth_trying(about, example), axis.minimum or example, axis.maximum or example}
    tried = sorted(size for size in worth if axis.takes(size))
    if all(map(holds, tried)):
        return axis, ""
    steps = [n for n in range(axis.multiple_of, _NEAR + 1) if example % n == 0]
    accepted = {step: _around(tried, example, step, holds) for step in steps}
    step = max(steps, key=lambda each: (len(accepted[each]), -each))
    kept = accepted[step]
    reaches_down = kept[0] <= next(size for size in tried if size % step == 0)
    reaches_up = kept[-1] >= next(size for size in reversed(tried) if size % step == 0)
    narrowed = replace(
        axis,
        minimum=axis.minimum if reaches_down else kept[0],
        maximum=axis.maximum if reaches_up else kept[-1],
        multiple_of=step,
    )
    nearest = sorted(tried, key=lambda size: abs(size - example))
    stopping = broken[next(size for size in nearest if not holds(size))]
    return narrowed, "" if stopping is None else stopping.source


def _around(
    tried: Sequence[int], example: int, step: int, holds: Callable[[int], bool]
) -> list[int]:
    """The multiples of a step around the example for which all holds, without a gap."""
    accepted = {example}
    for way in (
        [size for size in reversed(tried) if size < example],
        [size for size in tried if size > example],
    ):
        inside = example
        for size in way:
            if size % step:
                continue
            if not holds(size):
                accepted.add(_last(inside, size, step, holds))
                break
            inside = size
            accepted.add(size)
    return sorted(accepted)


def _last(inside: int, outside: int, step: int, holds: Callable[[int], bool]) -> int:
    """The last multiple of a step for which all holds, from one that does to one that does not."""
    while abs(outside - inside) > step:
        middle = (inside + outside) // (2 * step) * step
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def _worth_trying(guards: Sequence[Guard], example: int) -> set[int]:
    around = (0, example, 2 * example, 4 * example)
    sizes = {middle + away for middle in around for away in range(-_NEAR, _NEAR + 1)}
    numbers = {number for guard in guards for number in guard.numbers() if 0 < number <= _FAR}
    return sizes | {number + away for number in numbers for away in (-1, 0, 1)} - {0}


def _speaks_of(guard: Guard, shapes: Mapping[str, Sequence[int | str]], name: str) -> bool:
    return any(
        shapes.get(source, ())[axis : axis + 1] == (name,) for source, axis in guard.inputs()
    )


def _first_broken(
    guards: Sequence[Guard], shapes: Mapping[str, Sequence[int | str]], at: Mapping[str, int]
) -> Guard | None:
    made = {
        name: [at.get(size, 0) if isinstance(size, str) else size for size in shape]
        for name, shape in shapes.items()
    }
    return next((guard for guard in guards if not guard.holds(made)), None)
