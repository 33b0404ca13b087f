"""The first module whose frames in the windows are not those of the whole."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from exporter.contracts.compare.noise import Noise, distance, scale_of
from exporter.contracts.locate.first import record
from exporter.contracts.locate.recorder import Call
from exporter.contracts.result import Location
from exporter.contracts.stream.lookahead import exact_rate
from exporter.contracts.target import ForwardError, Target, as_array, as_view
from exporter.core.tensors import Arrays, Case
from exporter.core.windows import Window


def first_module(
    target: Target, whole: Target, case: Case, noise: Noise, steps: int
) -> Location | None:
    """Where windows begin to differ; None where no module's frames can be laid on the whole's.

    Args:
        target: is called in windows. whole: sees everything at once. noise: of the whole.
        steps: of the whole.
    """
    streamed = case.stream
    if streamed is None:
        return None
    try:
        offline = record(whole, whole.cases[0].entire)
        windows = _windows(target, case)
    except ForwardError:
        return None
    for key, call in offline.items():
        if key.startswith(("output:", "(root)")) or any(key not in held for held in windows):
            continue
        whole_value = as_view(call.value)
        for held, window in zip(windows, streamed.windows, strict=True):
            value = as_view(held[key].value)
            pair = _laid(value, whole_value, window, steps)
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
