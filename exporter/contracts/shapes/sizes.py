"""Which sizes of which axes are tried, and inputs of those sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from exporter.contracts.padding.batches import SHARES
from exporter.contracts.probes import (
    probe,
    probe_steps,
    resize,
    short_steps,
    stack_rows,
    take_row,
)
from exporter.contracts.rows import varied_rows
from exporter.contracts.target import Target, TimeAxis
from exporter.core.tensors import Arrays, Axis

_CHEAP_STEPS = 4_000
_DEAR_SIZE = 200_000
"""Sizes beyond this are tried only by a thorough run (12.5 s of audio at 16 kHz)."""
_SHARE_OF_PROBE = 4
_LONG_EXAMPLE = 16_000
"""What stands for a longer example, except in a thorough run (1 s of audio at 16 kHz)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepAxis:
    """One symbolic axis and its sizes; ``time`` is None for the batch axis."""

    name: str
    sizes: tuple[int, ...]
    example: int
    time: TimeAxis | None


def sweep_axes(
    target: Target, sizes: Mapping[str, tuple[int, ...]], longest: Mapping[str, int]
) -> tuple[list[SweepAxis], list[str]]:
    """Axes of the inputs with their sizes, and what was left out because of its cost."""
    swept: dict[str, SweepAxis] = {}
    left_out: list[str] = []
    for spec in target.inputs:
        for position, name in enumerate(spec.shape):
            if not isinstance(name, str) or name in swept:
                continue
            limits = next((axis for axis in spec.axes if axis.name == name), None)
            minimum = limits.minimum if limits else 1
            maximum = longest.get(name, limits.maximum if limits else None)
            example = _example_size(target, spec.name, position)
            chosen = sizes.get(name) or derived(minimum, example, maximum)
            if not target.thorough and name not in sizes and example > _LONG_EXAMPLE:
                every, chosen = chosen, _short_of(minimum, example, maximum)
                left_out += [
                    f"{name} = {size} (only with --thorough)"
                    for size in every
                    if size not in chosen and (size == example or size > max(chosen))
                ]
            declared = target.sweep.get(spec.name) or target.sweep.get(name)
            if declared and name != target.batch and name not in sizes:
                # The run judges every declared length; here the longest is what is of interest.
                chosen = tuple(sorted({*chosen, max(declared)}))
            if not target.thorough and name not in sizes:
                dear = [size for size in chosen if size > max(_DEAR_SIZE, 4 * example)]
                left_out += [f"{name} = {size} (only with --thorough)" for size in dear]
                chosen = tuple(size for size in chosen if size not in dear)
            if limits is not None and name not in sizes:
                chosen = _taken(limits, chosen)
            time = None if name == target.batch else target.time_axis(spec.name, name)
            swept[name] = SweepAxis(name=name, sizes=tuple(chosen), example=example, time=time)
    # Time before batch: a constant of the time axis spoils every batch of other lengths.
    return sorted(swept.values(), key=lambda axis: axis.time is None), left_out


def _taken(limits: Axis, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes that an axis may have: those near to others, where it comes in multiples."""
    near = {limits.near(size) for size in sizes}
    return tuple(sorted(size for size in near if limits.takes(size)))


def _example_size(target: Target, name: str, position: int) -> int:
    if target.example is not None and name in target.example:
        return int(target.example[name].shape[position])
    return int(target.cases[0].entire[name].shape[position])


def derived(minimum: int, example: int, maximum: int | None) -> tuple[int, ...]:
    """Minimum, minimum + 1, odd, prime, example, 4x example, longest; within the declared range."""
    wanted = {
        minimum,
        minimum + 1,
        max(example // 4 | 1, minimum),
        _next_prime(max(example // 2, minimum)),
        example,
        4 * example,
    }
    if maximum is not None:
        wanted = {size for size in wanted if size <= maximum} | {maximum}
    # Size 0 is the silence contract's empty input.
    return tuple(sorted(size for size in wanted if size >= max(minimum, 1)))


def _short_of(minimum: int, example: int, maximum: int | None) -> tuple[int, ...]:
    """The same sizes for a shorter example, and one beyond the example that was traced: a table
    that was made for it ends there."""
    short = derived(minimum, max(_LONG_EXAMPLE, minimum), maximum)
    beyond = _next_prime(example + example // 8)
    near = any(example < size <= max(_DEAR_SIZE, 4 * example) for size in short)
    if near or (maximum is not None and beyond > maximum):
        return short
    return tuple(sorted({*short, beyond}))


def _next_prime(number: int) -> int:
    number = max(number, 2)
    while any(number % d == 0 for d in range(2, int(number**0.5) + 1)):
        number += 1
    return number


def example_inputs(target: Target) -> dict[str, np.ndarray]:
    """Inputs of the sizes that were traced."""
    if target.example is None:
        return dict(target.cases[0].entire)
    return {name: value.numpy() for name, value in target.example.items()}


def at_size(target: Target, axis: SweepAxis, size: int) -> dict[str, np.ndarray]:
    """Inputs of the first case with one axis of that size; the batch sweep uses short rows."""
    time = target.time_axis()
    # A cache that is made shorter has to hold what one call adds, not all calls together.
    along = axis.time is None or (time is not None and axis.time.name == time.name)
    case = dict(target.cases[0].entire if along else target.cases[0].inputs)
    if axis.time is not None:
        traced = target.example if target.example is not None else {}
        cheap = size <= _CHEAP_STEPS and axis.time.input in traced and target.batch is not None
        if cheap and target.batch_position(axis.time.input) is not None:
            position = target.batch_position(axis.time.input) or 0
            rows = traced[axis.time.input].shape[position]
            one = resize(target, take_row(target, case, 0), axis.time, size)
            return _batch(target, one, rows, axis.time)
        return resize(target, case, axis.time, size)
    inputs = probe(target)
    if time is not None:
        traced_size = _example_size(target, time.input, time.position)
        short = short_steps(time, probe_steps(target, time), _SHARE_OF_PROBE)
        cheap = traced_size if traced_size <= _CHEAP_STEPS else short
        inputs = resize(target, case, time, cheap)
    return _batch(target, take_row(target, inputs, 0), size, time)


def _batch(target: Target, one: Arrays, count: int, time: TimeAxis | None) -> dict[str, np.ndarray]:
    """Rows that differ in every input, and in how much of them is in use; the first is full."""
    rows = varied_rows(target, one, count, axis=time)
    name = None if time is None else target.lengths.get(time.input)
    if time is not None and name is not None and rows[0][name].dtype.kind in "iu":
        for number, row in enumerate(rows):
            full = row[name]
            shorter = (full * SHARES[number % len(SHARES)]).astype(full.dtype)
            row[name] = np.maximum(shorter, np.minimum(full, time.minimum)).astype(full.dtype)
    return stack_rows(target, rows)
