"""Rows of a report on features: frames that differ, and what others do to the outputs."""

from __future__ import annotations

import numpy as np

from exporter.core.reading import reason
from exporter.features.cut_pipeline import Cut
from exporter.features.front_end import FrontEnd
from exporter.features.residual import compared, overlap
from exporter.interpret.eager import ModuleStoppedError
from exporter.metrics.text import token_errors
from exporter.report.features import EffectRow, FrameRow

_NOTHING = 1e-3
_WORST = 12


def frames_of(
    frames: np.ndarray, place: Cut, hop_seconds: float
) -> tuple[list[FrameRow], int | None]:
    """The worst frames, both as they are, and the first that differs."""
    if frames.shape[1] != place.features.shape[1]:
        return [], None
    front_end = place.front_end or FrontEnd()
    a, b = overlap(frames, place.features)
    off = np.abs(compared(a, front_end).astype(np.float64) - compared(b, front_end))
    rms = np.sqrt((off**2).mean(axis=1))
    spread = float(compared(place.features, front_end).std()) or 1.0
    wrong = np.flatnonzero(rms > 1e-3 * spread)
    order = np.argsort(-rms, kind="stable")[:_WORST]
    rows = [
        FrameRow(
            frame=int(at),
            seconds=float(at * hop_seconds),
            rms=float(rms[at]),
            worst=float(off[at].max()),
            worst_value=int(off[at].argmax()),
        )
        for at in order
        if len(wrong)
    ]
    return rows, int(wrong[0]) if len(wrong) else None


def effects_of(
    place: Cut, frames: np.ndarray, tokens: tuple[str, ...] | None
) -> tuple[list[EffectRow], str]:
    """Each output with theirs instead of ours, or why that cannot be shown."""
    if frames.shape[1] != place.features.shape[1]:
        return [], f"the pipeline takes {place.features.shape[1]} values a frame"
    ours = place.feed(place.features)
    try:
        theirs = place.feed(frames.astype(np.float32))
    except (ModuleStoppedError, RuntimeError, IndexError, ValueError) as error:
        return [], f"the pipeline does not run on them ({reason(error)})"
    return [_effect(name, ours[name], theirs[name], tokens) for name in ours if name in theirs], ""


def _effect(
    name: str, ours: np.ndarray, theirs: np.ndarray, tokens: tuple[str, ...] | None
) -> EffectRow:
    if ours.dtype.kind in "iub":
        a, b = (list(map(int, values.reshape(-1))) for values in (ours, theirs))
        a, b = ([value for value in values if value >= 0] for values in (a, b))
        edits = token_errors(a, b).count
        words = f"{edits} of {len(a)} differ" if edits else f"the same {len(a)}"
        if edits and tokens is not None and max([*a, *b]) < len(tokens):
            shown = ("".join(tokens[value] for value in values)[:80] for values in (a, b))
            words += ": '{}' becomes '{}'".format(*shown)
        return EffectRow(output=name, words=words, changed=bool(edits))
    if ours.shape != theirs.shape:
        words = f"shape {list(theirs.shape)} instead of {list(ours.shape)}"
        return EffectRow(output=name, words=words, changed=True)
    spread = float(np.std(ours)) or 1.0
    off = float(np.sqrt(np.mean((theirs.astype(np.float64) - ours) ** 2))) / spread
    words = f"off by {off:.2g} of its deviation"
    return EffectRow(output=name, words=words, changed=not off <= _NOTHING)
