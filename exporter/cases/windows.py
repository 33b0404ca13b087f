"""A case as a stream: windows that overlap, with context on both sides and a tail.

hop 4, left 2, right 1, over 10 steps, flush zeros

call 0   0 0 |0 1 2 3| 4
call 1        2 3 |4 5 6 7| 8
call 2                6 7 |8 9 0 0| 0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, cycle

import numpy as np

from exporter.cases.cut_axis import cut_axis
from exporter.config.stream import Stream
from exporter.core.errors import ConfigError
from exporter.core.tensors import Arrays, TensorSpec
from exporter.core.windows import Streamed, Window

STEPS = "stream_steps"
"""What the axis that is cut is called in the whole, where the graph has a fixed size for it."""
_LENGTHS = "_lengths"


def windows_of(stream: Stream, steps: int) -> tuple[Window, ...]:
    """The windows of a stream over so many steps."""
    total = steps + stream.tail
    windows: list[Window] = []
    start = 0
    for size in _sizes(stream):
        whole = Window(
            begin=start - stream.left,
            start=start,
            stop=start + size,
            end=start + size + stream.right,
        )
        if stream.flush == "short":
            whole = replace(whole, stop=min(whole.stop, total), end=min(whole.end, total))
        if stream.start == "short":
            whole = replace(whole, begin=max(whole.begin, 0))
        over = start >= total or (windows and total - start < stream.least)
        if over or (stream.flush == "drop" and whole.end > total):
            return tuple(windows)
        windows.append(whole)
        start = whole.stop
    raise AssertionError("sizes never end")


def _sizes(stream: Stream) -> Iterator[int]:
    every = stream.sizes or (stream.hop or 1,)
    if stream.first is None:
        return cycle(every)
    return chain((stream.first,), cycle(every))


def whole_specs(
    stream: Stream, specs: Mapping[str, TensorSpec], where: str
) -> dict[str, TensorSpec]:
    """Specs of what a case gives before it is cut: a fixed size of the cut axis does not hold."""
    name, axis = _what_is_cut(stream, specs, where)
    spec = specs[name]
    if isinstance(spec.shape[axis], str):
        return dict(specs)
    shape = (*spec.shape[:axis], STEPS, *spec.shape[axis + 1 :])
    return {**specs, name: replace(spec, shape=shape)}


def _what_is_cut(stream: Stream, specs: Mapping[str, TensorSpec], where: str) -> tuple[str, int]:
    return cut_axis(stream.input, stream.axis, specs, where, into="windows")


def cut_stream(
    stream: Stream, whole: Arrays, specs: Mapping[str, TensorSpec], where: str
) -> tuple[Streamed, tuple[Arrays, ...]]:
    """Cut a case; inputs that carry state hold what they hold before the first call.

    Args:
        whole: inputs of the case. specs: of the graph's inputs, by name.

    Raises:
        ConfigError: there is nothing to cut, it is too short, or a counter is no integer.
    """
    name, axis = _what_is_cut(stream, specs, where)
    label = specs[name].shape[axis]
    steps = whole[name].shape[axis]
    windows = windows_of(stream, steps)
    if len(windows) < 2:
        raise ConfigError(
            f"{steps} steps of '{name}' make {len(windows)} call(s): no seam, nothing to see",
            where=where,
            remedy="make the case longer, or the windows smaller",
        )
    for counter in (stream.position, stream.lengths, *stream.at_end):
        if counter is not None and whole.get(counter, np.zeros(0)).dtype.kind not in "iub":
            raise ConfigError(
                f"'{counter}' is no input of integers",
                where=where,
                remedy=f"name one of the inputs: {', '.join(specs)}",
            )
    follows = {
        other: spec.shape.index(label)
        for other, spec in specs.items()
        if other != name and isinstance(label, str) and label in spec.shape and spec.initial is None
    }
    places = {name: axis, **follows}
    calls = []
    for number, window in enumerate(windows):
        call = dict(whole)
        for other, at in places.items():
            call[other] = _piece(whole[other], at, window)
            lengths = f"{other}{_LENGTHS}"
            if lengths in specs:
                call[lengths] = np.full_like(whole[lengths], window.given)
        call |= _counted(stream, whole, window, last=number == len(windows) - 1)
        calls.append(call)
    streamed = Streamed(
        input=name,
        axis=axis,
        steps=steps,
        windows=windows,
        whole=whole,
        dropped=stream.flush == "drop",
    )
    return streamed, tuple(calls)


def _counted(stream: Stream, whole: Arrays, window: Window, *, last: bool) -> dict[str, np.ndarray]:
    """Inputs that count: what is behind, what is given, whether it is the end."""
    counts = {}
    if stream.position is not None:
        counter = whole[stream.position]
        counts[stream.position] = (counter + window.start // stream.position_per).astype(
            counter.dtype
        )
    if stream.lengths is not None:
        counts[stream.lengths] = np.full_like(whole[stream.lengths], window.given)
    for name, value in stream.at_end.items():
        counts[name] = np.full_like(whole[name], value if last else 0)
    return counts


def _piece(array: np.ndarray, axis: int, window: Window) -> np.ndarray:
    """What a window holds of an array: zeros where it reaches over an end."""
    size = array.shape[axis]
    inside = np.arange(min(max(window.begin, 0), size), min(max(window.end, 0), size))
    piece = np.take(array, inside, axis=axis)
    before = max(0, min(window.end, 0) - window.begin)
    behind = window.given - before - inside.size
    pad = [(0, 0)] * array.ndim
    pad[axis] = (before, behind)
    return np.pad(piece, pad) if before or behind else piece
