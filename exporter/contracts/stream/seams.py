"""Where in time a stream leaves what the whole gives: error per frame, and the worst seams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.contracts.stream.joined import Joined

_POINTS = 240
_LISTED = 5
_FARTHEST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """One call that differs.

    Attributes:
        call: its number, from 0. frame: its first frame, of the whole. frames: how many it has.
        worst: frame of the largest error, from the beginning of the call. error: that error.
    """

    call: int
    frame: int
    frames: int
    worst: int
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """The errors of one output over time.

    Attributes:
        error: per frame, the largest over everything else; 1.0 where discrete values differ.
        limit: above it a frame differs.
        starts: first frame of every call.
    """

    error: np.ndarray
    limit: float
    starts: tuple[int, ...]

    @property
    def worst_first(self) -> list[Seam]:
        """Calls that differ, worst first."""
        ends = (*self.starts[1:], len(self.error))
        seams = []
        for call, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            part = self.error[start:end]
            if part.size and part.max() > self.limit:
                worst = int(part.argmax())
                seams.append(
                    Seam(
                        call=call,
                        frame=start,
                        frames=end - start,
                        worst=worst,
                        error=float(part[worst]),
                    )
                )
        return sorted(seams, key=lambda seam: -seam.error)

    def details(self, ms_per_frame: float | None) -> dict[str, object]:
        """What a report keeps: the worst seams in words, and the curve small enough to draw."""
        step = max(1, -(-len(self.error) // _POINTS))
        blocks = np.arange(0, len(self.error), step)
        curve = np.maximum.reduceat(self.error, blocks) if len(self.error) else self.error
        words = [
            f"call {seam.call} from {time_text(seam.frame, ms_per_frame)}: {seam.error:.3g}, in"
            f" frame {seam.worst + 1} of its {seam.frames}"
            for seam in self.worst_first[:_LISTED]
        ]
        return {
            "worst seams": words or ["none differs"],
            "seam_curve": {
                "error": [float(f"{value:.3g}") for value in curve],
                "limit": self.limit,
                "starts": [start // step for start in self.starts],
                "frames_per_point": step,
                "ms_per_frame": ms_per_frame,
            },
        }


def time_text(frame: int, ms_per_frame: float | None) -> str:
    """A frame as a place in time."""
    return f"frame {frame}" if ms_per_frame is None else f"{frame * ms_per_frame:.4g} ms"


def seams_of(value: Joined, offline: np.ndarray, limit: float) -> Seams | None:
    """The errors over time; None for an output without steps, or of another shape."""
    axis = value.axis
    if axis is None or value.value.shape != offline.shape:
        return None
    return Seams(error=_errors(value.value, offline, axis), limit=limit, starts=value.starts)


def _errors(left: np.ndarray, right: np.ndarray, axis: int) -> np.ndarray:
    """Per frame, the largest difference; infinite where one side alone is not finite."""
    if left.dtype.kind in "biu":
        gaps = (left != right).astype(np.float64)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            gaps = np.abs(left.astype(np.float64) - right.astype(np.float64))
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        gaps = np.where(np.isnan(gaps) | np.isinf(gaps), np.where(same, 0.0, np.inf), gaps)
    moved = np.moveaxis(gaps, axis, 0).reshape(gaps.shape[axis], -1)
    return moved.max(axis=1) if moved.shape[1] else np.zeros(moved.shape[0])


def found_late(value: Joined, offline: np.ndarray, limit: float) -> int | None:
    """By how many frames the stream is late (or early, negative), if a shift explains it all.

    What is constant over time is equal at every shift: it explains nothing.
    """
    axis = value.axis
    if axis is None or offline.shape[axis] < 3:
        return None
    size = min(value.value.shape[axis], offline.shape[axis])
    for shift in (s for n in range(1, _FARTHEST + 1) for s in (n, -n)):
        count = size - abs(shift)
        if count < max(3, size // 2):
            return None
        mine = np.take(value.value, np.arange(count) + max(shift, 0), axis=axis)
        theirs = np.take(offline, np.arange(count) + max(-shift, 0), axis=axis)
        if (_errors(mine, theirs, axis) <= limit).all():
            return shift
    return None
