"""A stream's error over time as a small picture, with a line at each seam and one at the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

_WIDTH, _HEIGHT = 640, 120
_DECADES = 12
"""From the top down; what is smaller lies on the floor."""


def seam_plot(curve: Any) -> Markup:
    """An SVG of ``seam_curve`` of a contract's details; empty for anything else.

    Args:
        curve: ``error``, ``limit`` and ``starts``, as ``exporter.contracts.stream.seams`` has them.
    """
    if not isinstance(curve, Mapping):
        return Markup("")
    error = _numbers(curve.get("error"))
    starts = _numbers(curve.get("starts"))
    (limit,) = _numbers([curve.get("limit")]) or (0.0,)
    if not error:
        return Markup("")
    top = max([limit, *(value for value in error if math.isfinite(value)), 1e-300])
    step = _WIDTH / max(len(error), 1)
    points = " ".join(
        f"{step * (n + 0.5):.1f},{_height(value, top):.1f}" for n, value in enumerate(error)
    )
    lines = [_line(step * start, 0, step * start, _HEIGHT, "0.25") for start in starts]
    if limit > 0:
        level = _height(limit, top)
        lines.append(_line(0, level, _WIDTH, level, "0.9"))
    return Markup(  # noqa: S704 - numbers of our own formatting alone
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" width="100%"'
        ' aria-label="error over time, a line at every seam">'
        f'{"".join(lines)}<polyline fill="none" stroke="currentColor" stroke-width="1.5"'
        f' points="{points}"/></svg>'
    )


def _numbers(values: Any) -> Sequence[float]:
    """What is a number of a list; a report may come from anywhere.

    What is infinite is a word in a saved report: dropped, every frame behind it would move.
    """
    listed = values if isinstance(values, list | tuple) else []
    listed = [math.inf if v == "Infinity" else v for v in listed]
    return [float(v) for v in listed if isinstance(v, int | float) and not math.isnan(v)]


def _height(value: float, top: float) -> float:
    """From the top of the picture, on a logarithmic scale."""
    if not math.isfinite(value):
        return 2.0
    if value <= 0:
        return _HEIGHT - 2.0
    return min(_HEIGHT - 2.0, 6.0 + (_HEIGHT - 10.0) * math.log10(top / value) / _DECADES)


def _line(left: float, upper: float, right: float, lower: float, opacity: str) -> str:
    return (
        f'<line x1="{left:.1f}" y1="{upper:.1f}" x2="{right:.1f}" y2="{lower:.1f}"'
        f' stroke="currentColor" stroke-width="1" opacity="{opacity}" stroke-dasharray="3 3"/>'
    )
