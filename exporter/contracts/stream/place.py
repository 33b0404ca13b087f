"""Where a stream leaves the whole: the first module whose frames are others in the windows.

Of a file that is a layer that gives something else than PyTorch's in a window, on the same states;
a file that does what PyTorch does in every window is called wrongly, as PyTorch is.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from exporter.contracts.compare.noise import distance, scale_of
from exporter.contracts.locate.beside_program import first_unlike_program
from exporter.contracts.locate.first import record
from exporter.contracts.locate.recorder import Call
from exporter.contracts.result import Location
from exporter.contracts.stream.lookahead import exact_rate
from exporter.contracts.stream.whole import Whole, calls_of
from exporter.contracts.target import ForwardError, Target, as_array, as_view
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays, Case
from exporter.core.windows import Window


def first_place(target: Target, whole: Whole, *, of_file: bool, laid: bool) -> Location | None:
    """Where windows begin to differ; None where that cannot be told.

    Args:
        target: is called in windows. of_file: its file is, and not its module.
        laid: frames of a call can be laid on the whole's.
    """
    if of_file and (unlike := _first_call_unlike(target, whole)) is not None:
        return first_unlike_program(target, unlike)
    if whole.reach.beyond is not None:
        return whole.reach.beyond[1]
    return _first_module(target, whole) if laid else None


def layer_of_file(target: Target, whole: Whole) -> Location | None:
    """The first layer of the file that gives something else than PyTorch's in a window; None where
    none does, and where no layer of it is known."""
    unlike = _first_call_unlike(target, whole)
    return None if unlike is None else first_unlike_program(target, unlike)


def _first_call_unlike(target: Target, whole: Whole) -> Arrays | None:
    """What goes into the first call of which the file gives something else than PyTorch."""
    state: Arrays = {}
    for inputs, wanted in zip(calls_of(whole.case), whole.parts, strict=True):
        given = {**inputs, **state}
        try:
            found = target.onnx.run(given)
        except OnnxStoppedError:
            return given
        for name, value in wanted.items():
            if name not in found or not whole.noise.explains(name, found[name], value):
                return given
        state = {into: wanted[output] for output, into in target.states.items()}
    return None


def _first_module(target: Target, held: Whole) -> Location | None:
    whole, noise = held.target, held.noise
    try:
        offline = record(whole, whole.cases[0].entire)
        windows = _windows(target, held.case)
    except ForwardError:
        return None
    for key, call in offline.items():
        if key.startswith(("output:", "(root)")) or any(key not in calls for calls in windows):
            continue
        whole_value = as_view(call.value)
        for calls, window in zip(windows, held.streamed.windows, strict=True):
            value = as_view(calls[key].value)
            pair = _laid(value, whole_value, window, held.steps)
            if pair is None:
                break
            left, right = pair
            if left.size and distance(left, right) > noise.limit(
                key, scale_of(whole_value), whole_value.size
            ):
                return call.place
    return None


def _windows(target: Target, case: Case) -> list[dict[str, Call]]:
    state: Arrays = {}
    found = []
    for inputs in (case.inputs, *case.later):
        calls = record(target, {**inputs, **state})
        state = {
            into: as_array(calls[f"output:{name}"].value) for name, into in target.states.items()
        }
        found.append(calls)
    return found


def _laid(
    value: np.ndarray, whole: np.ndarray, window: Window, steps: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The new frames of a window, and the same of the whole; None where they cannot be told."""
    if value.ndim != whole.ndim or value.dtype.kind != "f":
        return None
    unlike = [k for k in range(value.ndim) if value.shape[k] != whole.shape[k]]
    if len(unlike) != 1:
        return None
    axis = unlike[0]
    rate = exact_rate(whole.shape[axis], steps)
    if rate is None:
        return None
    frames = value.shape[axis]
    if frames == rate * window.given:
        first = rate * window.begin
    elif frames == rate * (window.stop - window.start):
        first = rate * window.start
    else:
        return None
    begin, end = rate * window.start, min(rate * window.stop, Fraction(whole.shape[axis]))
    if any(edge.denominator != 1 for edge in (first, begin, end)):
        return None
    there = np.arange(int(begin), int(end))
    return np.take(value, there - int(first), axis=axis), np.take(whole, there, axis=axis)
