"""Find the first layer, and in it the first op, where runs that should agree do not.

The same search serves every contract: record a few runs, walk the records in the order in which
they were computed, and ask a judge about each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from exporter.contracts.locate.recorder import Call, ModuleStack, OpRecorder, Recorder
from exporter.contracts.result import Location
from exporter.contracts.target import ForwardError, Target, as_array, as_view
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays

Judge = Callable[[str, tuple[np.ndarray, ...]], bool]
"""(key, one value per run) -> whether something is wrong."""

_MOST_OP_RECORDS = 20_000


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


def first_layer(runs: Sequence[dict[str, Call]], judge: Judge) -> Location | None:
    """The first recorded module whose results the judge objects to."""
    for key in shared_keys(runs):
        if judge(key, tuple(as_view(run[key].value) for run in runs)):
            return runs[0][key].place
    return None


def first_op(target: Target, inputs: Sequence[Arrays], scope: str, judge: Judge) -> Location | None:
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
        if judge(calls[0].place.op, tuple(as_view(call.value) for call in calls)):
            return calls[0].place
    return None


def locate(
    target: Target,
    inputs: Sequence[Arrays],
    runs: Sequence[dict[str, Call]],
    judge: Judge,
) -> Location | None:
    """First layer, refined to the op where that is possible.

    Args:
        inputs: what each run was given.
        runs: the records of the same runs.
    """
    layer = first_layer(runs, judge)
    if layer is None:
        return first_op(target, inputs, "", judge)
    op = first_op(target, inputs, layer.module, judge)
    return layer if op is None else replace(op, source=op.source or layer.source)


def first_value(target: Target, inputs: Sequence[Arrays], judge: Judge) -> Location | None:
    """The first value of the ONNX file that the judge objects to; ``None`` also when the file
    cannot be run piece by piece."""
    try:
        for name, values in target.onnx.walk(tuple(inputs)):
            if judge(name, values):
                return target.onnx.place(name)
    except OnnxStoppedError:
        return None
    return None
