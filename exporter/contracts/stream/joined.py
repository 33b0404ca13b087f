"""What the calls of a stream give, joined along time to stand beside what the whole gives.

call 0   [. . a a a a .]         trim: frames of the context are cut off
call 1             [. b b b b .]
joined       a a a a b b b b
late 1         a a a b b b b     the first frame says nothing, the tail has brought the last

call 0   [a a a a]                overlap_add: windows are faded and summed where they overlap
call 1       [b b b b]
added     a a + + b b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from pydantic import Field

from exporter.config.section import Section
from exporter.core.windows import Streamed, Window

_HALF = 0.5
"""Frames that rounding makes of a share of the whole, at most."""


class OverlapAdd(Section):
    """How the caller adds up what overlapping calls give."""

    fade: Literal["none", "triangle", "hann"] = Field(
        default="none", description="what a call's frames are multiplied by; none: the model did it"
    )
    normalised: bool = Field(default=False, description="the sum is divided by the sum of fades")


class UnjoinedError(ValueError):
    """Frames of calls that cannot be joined; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """One output of a stream.

    Attributes:
        value: of all calls together; of the last call where the output has no steps.
        axis: its steps; None for an output without.
        starts: where each call begins, in frames of ``value``.
        surplus: frames behind what the whole gives, which came of zeros; already cut off.
    """

    value: np.ndarray
    axis: int | None
    starts: tuple[int, ...] = ()
    surplus: int = 0


def joined(
    parts: Sequence[np.ndarray],
    offline: np.ndarray,
    streamed: Streamed,
    *,
    trim: bool,
    late: int,
    add: OverlapAdd | None = None,
    declared: int | None = None,
    steps: int = 0,
) -> Joined:
    """Join what the calls gave.

    Args:
        parts: one array per call. offline: what the whole gives.
        trim: a call gives frames of its context as well.
        late: frames by which the stream is behind.
        add: calls overlap, and are summed.
        declared: the axis of its frames, if the specs tell it. steps: of the whole.

    Raises:
        UnjoinedError: a call's frames do not fit its steps, or the whole's.
    """
    axis = _steps_axis(parts, offline)
    if (
        axis is None
        and declared is not None
        and _framewise(offline.shape[declared], streamed.windows, steps)
    ):
        axis = declared
    if axis is None:
        return Joined(value=parts[-1], axis=None)
    if add is not None:
        kept, starts = _added(parts, streamed, axis, add)
    else:
        kept = [
            _trimmed(part, window, axis) if trim else part
            for part, window in zip(parts, streamed.windows, strict=True)
        ]
        starts = tuple(int(n) for n in np.cumsum([0, *(part.shape[axis] for part in kept)]))[:-1]
    whole = np.concatenate(kept, axis=axis)
    wanted = offline.shape[axis]
    if late:
        whole = np.take(whole, np.arange(late, max(whole.shape[axis], late)), axis=axis)
        starts = tuple(max(0, start - late) for start in starts)
    surplus = whole.shape[axis] - wanted
    if (
        0 < surplus <= _of_zeros(kept, streamed, axis, added=add is not None)
        and late <= whole.shape[axis]
    ):
        whole = np.take(whole, np.arange(wanted), axis=axis)
    else:
        surplus = 0
    return Joined(value=whole, axis=axis, starts=starts, surplus=surplus)


def _steps_axis(parts: Sequence[np.ndarray], offline: np.ndarray) -> int | None:
    """The axis that the calls add up along; None where each call gives all of it."""
    if any(part.ndim != offline.ndim for part in parts):
        shapes = f"{list(parts[0].shape)} in a call and {list(offline.shape)} in the whole"
        raise UnjoinedError(f"it has the shape {shapes}")
    unlike = {
        axis
        for part in parts
        for axis, (mine, theirs) in enumerate(zip(part.shape, offline.shape, strict=True))
        if mine != theirs
    }
    if len(unlike) > 1:
        shapes = f"{list(parts[0].shape)} in a call and {list(offline.shape)} in the whole"
        raise UnjoinedError(f"it has the shape {shapes}: more than the steps differ")
    return unlike.pop() if unlike else None


def _framewise(frames: int, windows: Sequence[Window], steps: int) -> bool:
    """Whether calls give as many frames as their share of the whole has: windows nearly as long as
    the whole do, and then all of it has one shape."""
    shares = [frames * window.given / max(steps, 1) for window in windows]
    return frames > 1 and all(abs(frames - share) < _HALF for share in shares)


def rate_of(frames: int, window: Window) -> Fraction:
    """Frames for each step of a window that gives frames for its context, too."""
    return Fraction(frames, window.given)


def _trimmed(part: np.ndarray, window: Window, axis: int) -> np.ndarray:
    rate = rate_of(part.shape[axis], window)
    first, last = rate * (window.start - window.begin), rate * (window.stop - window.begin)
    if first.denominator != 1 or last.denominator != 1:
        raise UnjoinedError(
            f"{part.shape[axis]} frames for a window of {window.given} steps: its context of"
            f" {window.start - window.begin} and {window.end - window.stop} is no whole number of"
            " frames"
        )
    return np.take(part, np.arange(int(first), int(last)), axis=axis)


def _added(
    parts: Sequence[np.ndarray], streamed: Streamed, axis: int, add: OverlapAdd
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """All calls summed from step 0 on, and where each begins in it."""
    rates = {
        rate_of(part.shape[axis], window)
        for part, window in zip(parts, streamed.windows, strict=True)
    }
    (rate, *others) = sorted(rates)
    begins = [rate * window.begin for window in streamed.windows]
    if others or any(begin.denominator != 1 for begin in begins):
        raise UnjoinedError("its calls give no whole number of frames for a step: nothing to add")
    first = min(0, *map(int, begins))
    places = [int(begin) - first for begin in begins]
    size = max(at + part.shape[axis] for at, part in zip(places, parts, strict=True))
    moved = [np.moveaxis(part, axis, -1) for part in parts]
    total = np.zeros((*moved[0].shape[:-1], size), dtype=moved[0].dtype)
    shares = np.zeros(size)
    for at, part in zip(places, moved, strict=True):
        fade = fade_of(add.fade, part.shape[-1])
        total[..., at : at + part.shape[-1]] += (part * fade).astype(part.dtype)
        shares[at : at + part.shape[-1]] += fade
    if add.normalised:
        total = (total / np.where(shares > 0, shares, 1.0)).astype(total.dtype)
    whole = np.moveaxis(total[..., -first:], -1, axis)
    return [whole], tuple(max(0, int(begin)) for begin in begins)


def fade_of(kind: str, frames: int) -> np.ndarray:
    """``[frames]`` in float64: ones, a triangle or a Hann window, nowhere zero."""
    at = (np.arange(frames) + 0.5) / frames
    if kind == "triangle":
        return 1.0 - np.abs(2.0 * at - 1.0)
    return np.sin(np.pi * at) ** 2 if kind == "hann" else np.ones(frames)


def _of_zeros(kept: Sequence[np.ndarray], streamed: Streamed, axis: int, *, added: bool) -> int:
    """Frames at the end that came of zeros behind the whole, at most."""
    steps = streamed.windows[-1].end if added else sum(w.stop - w.start for w in streamed.windows)
    frames = sum(part.shape[axis] for part in kept)
    return -(-frames * streamed.filled // max(steps, 1))
