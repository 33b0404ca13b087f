"""Find the first layer, and in it the first op, where runs that should agree do not.

The same search serves every contract: record a few runs, walk the records in the order in which
they were computed, and ask a judge about each. The judge returns ``None`` for "fine".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.contracts.locate.recorder import Call, ModuleStack, OpRecorder, Recorder
from exporter.contracts.result import Location
from exporter.contracts.target import ForwardError, Target, as_array, as_view
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays

Judge = Callable[[str, tuple[np.ndarray, ...]], str | None]
"""(key, one value per run) -> what is wrong, or None."""

_MOST_OP_RECORDS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """The first place that a judge objects to, and what it said."""

    place: Location
    key: str
    what: str


def record(target: Target, inputs: Arrays) -> dict[str, Call]:
    """What every module returns, in order, and the target's outputs under their names.

    Raises:
        ForwardError: the module raised.
    """
    calls: dict[str, Call] = {}

    def take(call: Call) -> None:
        calls[call.key] = call

    with Recorder(target.module, take=take):
        returned = target.call(inputs)
    for name, value in target.named(returned).items():
        calls[f"output:{name}"] = Call(key=name, place=Location(), value=value.detach())
    return calls


def outputs_of(calls: dict[str, Call]) -> dict[str, np.ndarray]:
    """The target's outputs in a recorded run."""
    return {
        key.removeprefix("output:"): as_array(call.value)
        for key, call in calls.items()
        if key.startswith("output:")
    }


def shared_keys(runs: Sequence[dict[str, Call]]) -> list[str]:
    """Keys of modules' results that all runs have, in order."""
    others = [set(run) for run in runs[1:]]
    return [
        key
        for key in runs[0]
        if not key.startswith("output:") and all(key in other for other in others)
    ]


def first_layer(runs: Sequence[dict[str, Call]], judge: Judge) -> Objection | None:
    """The first recorded module whose results the judge objects to."""
    for key in shared_keys(runs):
        what = judge(key, tuple(as_view(run[key].value) for run in runs))
        if what is not None:
            return Objection(place=runs[0][key].place, key=key, what=what)
    return None


def first_op(
    target: Target, inputs: Sequence[Arrays], scope: str, judge: Judge
) -> Objection | None:
    """The first op inside a module whose results the judge objects to.

    ``None`` also when the runs do not call the same ops (a branch was taken differently).
    """
    runs: list[list[Call]] = []
    for run in inputs:
        with ModuleStack(target.module) as stack, OpRecorder(stack, scope) as ops:
            try:
                target.call(run)
            except ForwardError:
                return None
        runs.append(ops.calls)
        if len(ops.calls) > _MOST_OP_RECORDS:
            return None
    if len({tuple(call.key for call in run) for run in runs}) != 1:
        return None
    for calls in zip(*runs, strict=True):
        what = judge(calls[0].place.op, tuple(as_view(call.value) for call in calls))
        if what is not None:
            return Objection(place=calls[0].place, key=calls[0].key, what=what)
    return None


def locate(
    target: Target,
    inputs: Sequence[Arrays],
    runs: Sequence[dict[str, Call]],
    judge: Judge,
) -> Objection | None:
    """First layer, refined to the op where that is possible.

    Args:
        inputs: what each run was given.
        runs: the records of the same runs.
    """
    layer = first_layer(runs, judge)
    if layer is None:
        return first_op(target, inputs, "", judge)
    op = first_op(target, inputs, layer.place.module, judge)
    if op is None:
        return layer
    place = op.place
    if not place.source:
        place = Location(module=place.module, op=place.op, source=layer.place.source)
    return Objection(place=place, key=layer.key, what=layer.what)


def first_value(target: Target, inputs: Sequence[Arrays], judge: Judge) -> Objection | None:
    """The first value of the ONNX file that the judge objects to; ``None`` also when the file
    cannot be run piece by piece."""
    try:
        for name, values in target.onnx.walk(tuple(inputs)):
            what = judge(name, values)
            if what is not None:
                return Objection(place=target.onnx.place(name), key=name, what=what)
    except OnnxStoppedError:
        return None
    return None
