"""Runs that ought to repeat: inputs for them, and how their outputs are compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from exporter.contracts.compare.agree import Disagreement
from exporter.contracts.compare.align import reversals
from exporter.contracts.compare.differ import differ
from exporter.contracts.compare.noise import Noise
from exporter.contracts.probes import (
    is_option,
    other_future,
    replaced,
    stack_rows,
    take_row,
)
from exporter.contracts.rows import varied_rows
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays

Pairs = Iterator[tuple[str, Arrays, Arrays]]
"""Pairs of runs that ought to be equal, each with the name of the test."""

_ROWS = 3


def batch_of(target: Target, inputs: Arrays) -> dict[str, np.ndarray]:
    """A batch of three rows that differ in every input."""
    one = take_row(target, inputs, 0)
    return stack_rows(target, varied_rows(target, one, _ROWS, axis=target.time_axis()))


def turned_batch(target: Target, batch: Arrays) -> dict[str, np.ndarray]:
    """The same rows in reversed order."""
    rows = [take_row(target, batch, k) for k in range(row_count(target, batch))]
    return stack_rows(target, rows[::-1])


def row_count(target: Target, batch: Arrays) -> int:
    """Rows of a batch; 0 without a batch axis."""
    for spec in target.inputs:
        position = target.batch_position(spec.name)
        if position is not None:
            return batch[spec.name].shape[position]
    return 0


def unrelated(target: Target, inputs: Arrays) -> dict[str, np.ndarray]:
    """Other values of the same shapes."""
    axis = target.time_axis()
    if axis is not None:
        return other_future(target, inputs, axis, 0, scale=1.0, seed=11)
    generator = np.random.Generator(np.random.PCG64(11))
    return {
        spec.name: inputs[spec.name]
        if is_option(spec, inputs[spec.name])
        else replaced(inputs[spec.name], spec, generator, 1.0)
        for spec in target.inputs
    }


def compare(left: Arrays, right: Arrays, noise: Noise, *, bitwise: bool) -> Disagreement | None:
    """The first output that differs; ``None`` when none does."""
    for name, value in left.items():
        mismatch = differ(value, right[name], noise, name, bitwise=bitwise)
        if mismatch is not None:
            return Disagreement(output=name, difference=mismatch)
    return None


def compare_turned(
    target: Target, left: Arrays, right: Arrays, rows: int, noise: Noise
) -> Disagreement | None:
    """The first output that is not what it was with its rows in another order.

    An output without a batch axis of its own may hold rows all the same ([4 x batch, ...]): it
    agrees when one way of reading it does.
    """
    for name, value in left.items():
        position = target.batch_position(name)
        if value.shape != right[name].shape:
            mismatches = [differ(value, right[name], noise, name)]
        else:
            read = reversals(right[name], rows, position)
            mismatches = [differ(value, turned, noise, name) for turned in read]
        if all(mismatches):
            worst = min(
                (item for item in mismatches if item), key=lambda item: (item.gap, item.count)
            )
            return Disagreement(output=name, difference=worst)
    return None
