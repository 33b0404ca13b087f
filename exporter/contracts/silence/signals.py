"""Signals at the limits, in the place of one input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.contracts.probes import resize, short_steps, stack_rows, take_row
from exporter.contracts.rows import varied_rows
from exporter.contracts.silence.settings import Settings
from exporter.contracts.target import Target, TimeAxis
from exporter.core.tensors import Arrays

_SQUARE_PERIOD = 160
_SHARE_OF_PROBE = 4
"""Of which NaN and Inf are put into three rows at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One signal as inputs.

    Attributes:
        finite: no NaN and no Inf is in it.
        refusable: its size is outside of what the axis declares, so raising is an answer.
        row: the row that holds NaN or Inf; None without a batch.
        rows: rows of the batch.
    """

    name: str
    inputs: dict[str, np.ndarray]
    finite: bool = True
    refusable: bool = False
    row: int | None = None
    rows: int = 1


def make_signals(
    target: Target, axis: TimeAxis, inputs: Arrays, settings: Settings
) -> list[Signal]:
    """The signals that the settings ask for."""
    spec_shape = inputs[axis.input].shape
    generator = np.random.Generator(np.random.PCG64(8))
    scale = settings.full_scale
    steps = np.arange(spec_shape[axis.position])
    square = np.where(steps // (_SQUARE_PERIOD // 2 if len(steps) > 1000 else 2) % 2, -scale, scale)
    along = [1] * len(spec_shape)
    along[axis.position] = len(steps)
    click = np.zeros(len(steps))
    click[len(steps) // 2 : len(steps) // 2 + 1] = scale
    shapes = {
        "silence": np.zeros(spec_shape),
        "constant": np.full(spec_shape, scale),
        "square": np.broadcast_to(square.reshape(along), spec_shape),
        "click": np.broadcast_to(click.reshape(along), spec_shape),
        "faint": generator.standard_normal(spec_shape) * 1e-8,
    }
    signals = []
    for name in settings.signals:
        if name in shapes:
            values = np.ascontiguousarray(shapes[name], dtype=inputs[axis.input].dtype)
            signals.append(Signal(name=name, inputs={**inputs, axis.input: values}))
        elif name == "empty" and axis.name:  # a window of one size is never empty
            empty = resize(target, inputs, axis, 0)
            signals.append(Signal(name=name, inputs=empty, refusable=axis.minimum > 0))
        elif name in ("nan", "inf") and settings.non_finite != "skip":
            batched = target.batch_position(axis.input) is not None
            size = inputs[axis.input].shape[axis.position]
            given = inputs
            if batched:
                given = resize(target, inputs, axis, short_steps(axis, size, _SHARE_OF_PROBE))
            signals.append(_broken(target, axis, given, name))
    return signals


def _broken(target: Target, axis: TimeAxis, inputs: Arrays, name: str) -> Signal:
    """One value in the middle is NaN or Inf; with a batch, in the second of three rows."""
    value = np.nan if name == "nan" else np.inf
    batch = target.batch_position(axis.input)
    rows = 1 if batch is None else 3
    one = take_row(target, inputs, 0)
    given = one if batch is None else stack_rows(target, varied_rows(target, one, rows, axis=axis))
    array = np.array(given[axis.input], copy=True)
    index: list[slice | int] = [slice(None)] * array.ndim
    index[axis.position] = array.shape[axis.position] // 2
    if batch is not None:
        index[batch] = 1
    array[tuple(index)] = value
    return Signal(
        name=name,
        inputs={**given, axis.input: array},
        finite=False,
        row=None if batch is None else 1,
        rows=rows,
    )
