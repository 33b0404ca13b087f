"""Why a stream leaves the whole, read off from where in time it does."""

from __future__ import annotations

import numpy as np

from exporter.contracts.compare.differ import Mismatch, MismatchKind
from exporter.contracts.stream.joined import Joined
from exporter.contracts.stream.lookahead import Reach
from exporter.contracts.stream.seams import Seams, found_late
from exporter.core.windows import Streamed

_TAIL = "flush the stream: 'flush: zeros' fills the last window, 'tail' goes on behind the end"
_TWICE = "cut off what a call gives for its context (trim), or let windows not overlap"
_LATE = "declare it (late: {%s: %d}) and flush it (tail), or take the delay out"
_RIGHT = "give the windows what is read ahead (right: %s), or mask it where the model reads it"
_WHOLE = "compute nothing over the whole input (a mean, a peak, a length) that a stream cannot know"
_FLUSH = (
    "the end of the whole is not zeros for this model: flush 'short', or let the whole have the"
    " same zeros (offline: {padded: true})"
)
_FIRST = (
    "nothing was handed on yet: what stands before the first window (start, left, the states'"
    " first values), or what the first call does differently"
)
_LEFT = (
    "hand over what the next call needs: every state, in its own place and order, the position,"
    " and as much left context as the model reads"
)


def advice_on(
    difference: Mismatch,
    streamed: Streamed,
    reach: Reach,
    *,
    value: Joined,
    offline: np.ndarray,
    seams: Seams | None,
) -> tuple[str, str]:
    """Why, and what to do.

    Args:
        value: of the stream. offline: of the whole. seams: None for another shape.
    """
    if difference.kind is MismatchKind.SHAPE and value.axis is not None:
        mine, theirs = value.value.shape[value.axis], offline.shape[value.axis]
        if mine < theirs:
            return f"{theirs - mine} of {theirs} frames never come out", _TAIL
        return f"{mine - theirs} frames too many come out", _TWICE
    shift = found_late(value, offline, seams.limit) if seams is not None else None
    if shift is not None:
        word = "late" if shift > 0 else "early"
        advice = _LATE % ("OUTPUT", shift) if shift > 0 else _TWICE
        return f"it is the whole, {abs(shift)} frame(s) {word}", advice
    if reach.beyond is not None:
        call, _, steps = reach.beyond
        more = "to the end" if steps is None else f"{steps} step(s)"
        right = max(w.end - w.stop for w in streamed.windows)
        why = f"call {call} would need {more} behind its window"
        return why, _WHOLE if steps is None else _RIGHT % (right + steps)
    calls = sorted(seam.call for seam in seams.worst_first) if seams is not None else []
    if seams is None or not calls:
        return "what the last call gives is not what the whole gives", _LEFT
    # A last call that was filled with zeros may have no frame of the whole.
    last = max(n for n, start in enumerate(seams.starts) if start < len(seams.error))
    if calls[0] == last and streamed.filled:
        return "the last call alone differs, which was filled with zeros", _FLUSH
    # Of windows that are summed the first may lie before the beginning as far as the next does.
    ends = (*seams.starts[1:], len(seams.error))
    before = [window.begin <= 0 for window in streamed.windows[1:]]
    pairs = zip(before, seams.starts, ends, strict=False)
    first = next((n for n, (early, start, end) in enumerate(pairs) if not early or end > start), 0)
    if calls[0] <= first:
        return "the first call differs already", _FIRST
    if calls == list(range(calls[0], last + 1)):
        return f"from call {calls[0]} on every call differs", _LEFT
    return f"{len(calls)} of {last + 1} calls differ, the first is call {calls[0]}", _LEFT
