"""Rows of a batch that differ in every input: what a row gives must come from that row alone.

    row        0          1          2          3
    loudness   0 dB       -28 dB     -10 dB     -38 dB
    signal     as it is   rolled along the time axis, each by another amount
    choices    zh         en         yue        ...        (conditioning, per row)
    vectors    as it is   rolled, at another size

Copies of one row would hide a model that uses row 0's language for all of them, or a maximum that
is taken over the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from exporter.contracts.target import Target, TimeAxis
from exporter.core.tensors import Arrays, TensorSpec

LOUDNESS = (1.0, 0.04, 0.3, 0.012)
"""Factors of the signal, row by row."""
_STATE = 0.1
"""Size of what stands in a state that is all zeros; never negative, as energies are not."""


def varied_rows(
    target: Target, one: Arrays, count: int, *, axis: TimeAxis | None, states: bool = True
) -> list[dict[str, np.ndarray]]:
    """``count`` rows made from one; the first is ``one`` itself.

    Args:
        one: inputs of one row; full lengths stay full.
        axis: the time axis; inputs that have it are rolled along it.
        states: also what carries state differs; False: every row begins a stream.
    """
    known = _known_values(target)
    rows = [{name: np.array(array, copy=True) for name, array in one.items()}]
    for row in range(1, count):
        made = {}
        for spec in target.inputs:
            array = np.array(one[spec.name], copy=True)
            kept = spec.initial is not None and not states
            if target.batch_position(spec.name) is not None and array.size and not kept:
                array = _varied(target, spec, array, row, axis, known)
            made[spec.name] = array
        rows.append(made)
    return rows


def alike(target: Target, rows: Sequence[Arrays]) -> list[str]:
    """Inputs with a batch in which all rows are equal, because no other value is known."""
    lengths = set(target.lengths.values())
    return [
        spec.name
        for spec in target.inputs
        if target.batch_position(spec.name) is not None
        and spec.name not in lengths
        and rows[0][spec.name].size
        and all(np.array_equal(rows[0][spec.name], row[spec.name]) for row in rows[1:])
    ]


def _varied(
    target: Target,
    spec: TensorSpec,
    array: np.ndarray,
    row: int,
    axis: TimeAxis | None,
    known: Mapping[str, np.ndarray],
) -> np.ndarray:
    along = _along(target, spec, axis)
    if spec.name in target.lengths.values():
        return _shorter(target, spec, array, row, axis)
    if along is not None:
        steps = array.shape[along]
        array = np.roll(array, -((row * steps) // 5), axis=along)
    if array.dtype == bool:
        # A mask of steps that is turned round may leave a row without any.
        return array if along is not None else array ^ (row > 0)
    if array.dtype.kind in "iu":
        return array if _moves(array, along) else _other_ids(array, known[spec.name], row)
    if axis is not None and spec.name == axis.input:
        return (array * LOUDNESS[row % len(LOUDNESS)]).astype(array.dtype)
    if axis is not None and axis.name in spec.shape:
        return array
    if not array.any():
        level = np.random.Generator(np.random.PCG64(row)).standard_normal(array.shape)
        return (np.abs(level) * _STATE if spec.initial is not None else level).astype(array.dtype)
    return (array * (1.0 + 0.25 * row)).astype(array.dtype)


def _along(target: Target, spec: TensorSpec, axis: TimeAxis | None) -> int | None:
    """What an input is rolled along: the time axis, or its last axis that is no batch."""
    if axis is not None and axis.name in spec.shape:
        return spec.shape.index(axis.name)
    rest = [k for k, size in enumerate(spec.shape) if size != target.batch and size != 1]
    return rest[-1] if rest else None


def _moves(array: np.ndarray, along: int | None) -> bool:
    """True where rolling has made another row of it."""
    return along is not None and bool((array != np.roll(array, 1, axis=along)).any())


def _other_ids(array: np.ndarray, known: np.ndarray, row: int) -> np.ndarray:
    """Other values out of those that are known to be valid, each by its own one.

    Of two values all rows but the first take the other: A B A would be the same turned round.
    """
    if len(known) < 2:
        return array
    index = np.searchsorted(known, array)
    step = min(row, 1) if len(known) == 2 else row
    return known[(index + step) % len(known)].astype(array.dtype)


def _shorter(
    target: Target, spec: TensorSpec, array: np.ndarray, row: int, axis: TimeAxis | None
) -> np.ndarray:
    """Lengths of another input than the signal: a part of them; masks stay."""
    measured = next((s for s in target.inputs if target.lengths.get(s.name) == spec.name), None)
    if array.dtype.kind not in "iu" or measured is None:
        return array
    if axis is not None and axis.name in measured.shape:
        return array  # the contract's own business
    minima = [limits.minimum for limits in measured.axes if limits.name != target.batch]
    least = np.minimum(array, max([1, *minima]))
    return np.maximum(array * (5 - row % 4) // 5, least).astype(array.dtype)


def _known_values(target: Target) -> dict[str, np.ndarray]:
    """Integer input -> values that are known to be valid: its choices, or those that were seen."""
    known = {}
    for spec in target.inputs:
        if not spec.dtype.startswith(("int", "uint")):
            continue
        seen = [case.entire[spec.name].reshape(-1) for case in target.cases]
        if target.example is not None and spec.name in target.example:
            seen.append(target.example[spec.name].numpy().reshape(-1))
        valid = np.array(sorted(spec.choices.values())) if spec.choices else np.concatenate(seen)
        known[spec.name] = np.unique(valid)
    return known
