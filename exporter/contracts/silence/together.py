"""NaN and Inf as rows of one batch, in the place of a batch for each.

    alone       a  NaN  c            a  Inf  c
    together    a  NaN  c  Inf  a    read from the left for NaN, from the right for Inf

Of a large model most of a short run goes into reading its weights. Whatever is wrong in the batch
of both is looked at again with each signal alone: only what is well is taken from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.contracts.probes import stack_rows, take_row
from exporter.contracts.silence.signals import Signal
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays

_PLACES = ((0, 1, 2), (4, 3, 2))
_ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The batch of both, its signals, and the axis that its rows lie along in every output."""

    inputs: dict[str, np.ndarray]
    signals: tuple[Signal, ...]
    along: Mapping[str, int]

    def fits(self, outputs: Arrays) -> bool:
        """Whether every output has a row for every row of the batch."""
        return all(outputs[name].shape[axis] == _ROWS for name, axis in self.along.items())

    def parts(self, outputs: Arrays) -> list[dict[str, np.ndarray]]:
        """What each signal gave, as its own batch would, of outputs that fit."""
        return [
            {name: np.take(outputs[name], rows, axis=axis) for name, axis in self.along.items()}
            for rows in _PLACES
        ]


def together(target: Target, signals: Sequence[Signal]) -> Together | None:
    """The batch of the two signals that break a row; None where there is none to be made."""
    broken = tuple(signal for signal in signals if signal.row is not None)
    axes = [axis for spec in target.inputs for axis in spec.axes if axis.name == target.batch]
    along = {spec.name: target.batch_position(spec.name) for spec in target.outputs}
    known = {name: axis for name, axis in along.items() if axis is not None}
    if len(broken) != len(_PLACES) or len(known) < len(along):
        return None
    if not all(axis.takes(_ROWS) for axis in axes):
        return None
    first, second = ([take_row(target, s.inputs, k) for k in range(3)] for s in broken)
    inputs = stack_rows(target, [*first, second[1], second[0]])
    return Together(inputs=inputs, signals=broken, along=known)
