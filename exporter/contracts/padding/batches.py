"""Utterances, and the batches that they are put into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exporter.contracts.probes import (
    probe_steps,
    replaced,
    resize,
    short_steps,
    stack_rows,
    take_row,
)
from exporter.contracts.rows import alike, varied_rows
from exporter.contracts.target import Target, TimeAxis
from exporter.core.tensors import Arrays

GARBAGE = 1000.0
"""Padding is this much larger than the input's own peak."""
SHARES = (1.0, 0.59, 0.31)
"""Lengths of the utterances, as shares of the longest."""
_SHARE_OF_PROBE = 2

_MASK = "pass the lengths down to this layer and mask the padded steps before they are mixed"
_GUESS = "take lengths as an input instead of guessing them from the values"
_STATISTICS = "compute nothing over the batch axis (BatchNorm in eval, no statistics of the batch)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch: which utterance is in which row, and what to do when it fails.

    Attributes:
        moved: how far its inputs are from those of the utterances alone.
    """

    label: str
    order: tuple[int, ...]
    inputs: dict[str, np.ndarray]
    advice: str
    moved: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterances:
    """Single utterances at their own length, and batches of them."""

    alone: list[dict[str, np.ndarray]]
    sizes: tuple[int, ...]
    batches: list[Batch]
    padded: int
    skipped: tuple[str, ...] = ()


def make_utterances(
    target: Target, axis: TimeAxis, *, pad_longest: bool, without_lengths: bool = False
) -> Utterances:
    """Cut utterances from the first case and batch them."""
    have = probe_steps(target, axis)
    steps = short_steps(axis, have, _SHARE_OF_PROBE)
    if steps < have:
        steps = axis.near(steps | 1)  # odd, as one of the sizes that shapes asks for
    one = resize(target, take_row(target, target.cases[0].entire, 0), axis, steps)
    if axis.input not in target.lengths and not without_lengths:
        return _of_one_length(target, axis, one, steps)
    sizes = tuple(max(axis.minimum, int(steps * share)) for share in SHARES)
    rows = varied_rows(target, one, len(sizes), axis=axis)
    alone = [
        _ending_in_zeros(target, resize(target, rows[row], axis, size), axis, row)
        for row, size in enumerate(sizes)
    ]
    padded = max(sizes) + (max(sizes) // 7 + 2 if pad_longest else 0)
    if axis.maximum is not None:
        padded = min(padded, axis.maximum)
    straight = tuple(range(len(sizes)))
    # Each utterance meets both fills, among others before it and behind it.
    plan = [("zeros", straight), ("garbage", straight[::-1])]
    if target.thorough:
        plan += [("garbage", straight), ("garbage", (1, 2, 0))]
    batches = [_batch(target, axis, alone, sizes, order, padded, fill) for fill, order in plan]
    return Utterances(
        alone=alone, sizes=sizes, batches=batches, padded=padded, skipped=_alike(target, rows)
    )


def _batch(
    target: Target,
    axis: TimeAxis,
    alone: Sequence[Arrays],
    sizes: tuple[int, ...],
    order: tuple[int, ...],
    padded: int,
    fill: str,
) -> Batch:
    rows = [_padded(target, axis, alone[k], sizes[k], padded, fill) for k in order]
    return Batch(
        label=f"{fill}, order {list(order)}",
        order=order,
        inputs=stack_rows(target, rows),
        advice=_MASK,
    )


def _padded(
    target: Target, axis: TimeAxis, row: Arrays, size: int, padded: int, fill: str
) -> dict[str, np.ndarray]:
    """One utterance with ``padded`` steps; lengths stay, masks end in False."""
    generator = np.random.Generator(np.random.PCG64(size))
    masks = set(target.lengths.values())
    longer = {}
    for spec in target.inputs:
        array = row[spec.name]
        if axis.name in spec.shape:
            position = spec.shape.index(axis.name)
            shape = list(array.shape)
            shape[position] = padded - size
            tail = np.zeros(shape, array.dtype)
            if fill == "garbage" and spec.name not in masks:
                peak = np.zeros(shape, array.dtype)
                peak.reshape(-1)[:1] = np.abs(array).max(initial=1)
                tail = replaced(peak, spec, generator, GARBAGE)
            array = np.concatenate([array, tail], axis=position)
        longer[spec.name] = array
    return longer


def _of_one_length(
    target: Target, axis: TimeAxis, one: dict[str, np.ndarray], steps: int
) -> Utterances:
    """Without lengths a model cannot know what is padding: batch invariance, and guesses.

    The guess ``x != 0`` is caught by an utterance that ends in digital silence next to the same
    utterance that ends in silence of 1e-12: both are silence, and must give the same.
    """
    alone = varied_rows(target, one, 3, axis=axis)
    skipped = ["padding (no input says how long an utterance is)", *_alike(target, alone)]
    zeros = _ending_in_zeros(target, one, axis, 1)
    faint = _ending_in_zeros(target, one, axis, 1, level=1e-12)
    alone.insert(1, zeros)  # beside its twin: at the other end two choices would be A B B A
    straight = stack_rows(target, alone)
    batches = [
        Batch(label="same lengths", order=(0, 1, 2, 3), inputs=straight, advice=_STATISTICS),
        Batch(
            label="same lengths, reversed",
            order=(3, 2, 1, 0),
            inputs=stack_rows(target, alone[::-1]),
            advice=_STATISTICS,
        ),
    ]
    if np.issubdtype(one[axis.input].dtype, np.floating):
        batches.append(
            Batch(
                label="silence of 1e-12 for 0",
                order=(1,),
                inputs=faint,
                advice=_GUESS,
                moved=float(np.abs(faint[axis.input] - zeros[axis.input]).max(initial=0.0)),
            )
        )
    return Utterances(
        alone=alone,
        sizes=(steps,) * len(alone),
        batches=batches,
        padded=steps,
        skipped=tuple(skipped),
    )


def _alike(target: Target, rows: Sequence[Arrays]) -> tuple[str, ...]:
    return tuple(
        f"rows that differ in '{name}' (no other value of it is known)"
        for name in alike(target, rows)
    )


def _ending_in_zeros(
    target: Target, row: dict[str, np.ndarray], axis: TimeAxis, index: int, level: float = 0.0
) -> dict[str, np.ndarray]:
    """Utterance 1 ends in silence that belongs to it, to catch lengths guessed from zeros."""
    spec = target.spec(axis.input)
    array = np.array(row[axis.input], copy=True)
    if index != 1 or not np.issubdtype(array.dtype, np.floating):
        return row
    size = array.shape[axis.position]
    index_of = [slice(None)] * array.ndim
    index_of[axis.position] = slice(size - max(1, size // 5), None)
    peak = float(np.abs(array).max(initial=0.0)) or 1.0
    array[tuple(index_of)] = level * peak
    return {**row, spec.name: array}
