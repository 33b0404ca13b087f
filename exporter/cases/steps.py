"""A case that is run call by call: its inputs are cut along one axis, its state is handed on.

    steps: 8               | first call: what is left | 1 | 1 | 1 | 1 | 1 | 1 | 1 | 1 |
    steps: {size: 512}     | 512 | 512 | 512 | ... | 512 |     what is left is dropped

The first form is a prompt and eight tokens after it, the second a stream in chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from exporter.cases.cut_axis import cut_axis
from exporter.config.inputs import Steps
from exporter.core.errors import ConfigError
from exporter.core.tensors import Arrays, Case, TensorSpec

if TYPE_CHECKING:
    from exporter.config import Pipeline

STEP = "+"
"""Between the name of a case and the number of a later call; no name in a YAML holds it."""
_LENGTHS = "_lengths"


def cut_calls(
    pipeline: Pipeline, position: int, inputs: Arrays, specs: Mapping[str, TensorSpec]
) -> tuple[Arrays, ...]:
    """Inputs of every call of a case; state inputs hold what they hold before the first one.

    Args:
        pipeline: has the case. position: its index.
        inputs: of the case as a whole.
        specs: of the graph's inputs, by name.

    Raises:
        ConfigError: there is nothing to cut, or it is too short for the calls.
    """
    given = pipeline.cases[position].steps
    steps = Steps(count=given) if isinstance(given, int) else given
    if steps is None:
        return (inputs,)
    where = pipeline.where("cases", position, "steps")
    name, axis = cut_axis(steps.input, steps.axis, specs, where, into="steps")
    label = specs[name].shape[axis]
    pieces = _pieces(steps, inputs[name].shape[axis], where)
    return tuple(
        _piece(steps, inputs, specs, (name, axis, label), start, stop, where)
        for start, stop in pieces
    )


def _pieces(steps: Steps, total: int, where: str) -> list[tuple[int, int]]:
    if steps.count is None:
        begins = range(0, total - steps.size + 1, steps.size)
        pieces = [(start, start + steps.size) for start in begins]
    else:
        first = total - steps.count * steps.size
        begins = range(max(first, 0), total, steps.size)
        pieces = [(start, start + steps.size) for start in begins]
        pieces = [(0, first), *pieces] if first > 0 else pieces if not first else []
    if len(pieces) < 2:
        raise ConfigError(
            f"{total} are not enough for these steps",
            where=where,
            remedy="make the case longer, or take fewer or smaller steps",
        )
    return pieces


def _piece(
    steps: Steps,
    inputs: Arrays,
    specs: Mapping[str, TensorSpec],
    cut: tuple[str, int, int | str],
    start: int,
    stop: int,
    where: str,
) -> Arrays:
    name, axis, label = cut
    piece = dict(inputs)
    for other, spec in specs.items():
        follows = isinstance(label, str) and label in spec.shape and spec.initial is None
        if other == name or follows:
            at = axis if other == name else spec.shape.index(label)
            piece[other] = np.take(inputs[other], np.arange(start, stop), axis=at)
            lengths = f"{other}{_LENGTHS}"
            if lengths in specs:
                piece[lengths] = np.full_like(inputs[lengths], stop - start)
    if steps.position is not None:
        counter = inputs.get(steps.position)
        if counter is None or counter.dtype.kind not in "iu":
            raise ConfigError(
                f"'{steps.position}' is no input of integers",
                where=where,
                remedy="name the input that counts what earlier calls have used up",
            )
        piece[steps.position] = (counter + start).astype(counter.dtype)
    return piece


def step_name(case: Case, number: int) -> str:
    """Name of a later call of a case; its first call has the name of the case."""
    return f"{case.name}{STEP}{number}"
