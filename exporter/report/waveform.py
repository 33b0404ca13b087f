"""A recording made small enough to draw: envelope, speech probabilities, segments."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from exporter.report.schema import WaveformRecord

POINTS = 2000


def waveform_record(
    case: str,
    waveform: np.ndarray,
    *,
    sample_rate_hz: int,
    segments: Iterable[tuple[int, int]] = (),
    speech_probs: np.ndarray | None = None,
    hop_samples: int | None = None,
    threshold: float | None = None,
    points: int = POINTS,
) -> WaveformRecord:
    """Build the record of one case.

    Args:
        case: name of the case.
        waveform: [num_samples] float.
        sample_rate_hz: of the waveform.
        segments: [start, end) in samples.
        speech_probs: [frames]; kept as they are.
        hop_samples: samples per frame of ``speech_probs``.
        threshold: of the voice activity detector.
        points: how many pairs of the envelope at most.

    Every sample is in exactly one pair, so no peak is lost.
    """
    samples = np.asarray(waveform, dtype=np.float64).reshape(-1)
    step = max(1, -(-samples.size // points))
    starts = np.arange(0, samples.size, step)
    low = np.minimum.reduceat(samples, starts) if samples.size else samples
    high = np.maximum.reduceat(samples, starts) if samples.size else samples
    probs = [] if speech_probs is None else np.asarray(speech_probs).reshape(-1)
    return WaveformRecord(
        case=case,
        sample_rate_hz=sample_rate_hz,
        num_samples=samples.size,
        minimum=[_short(value) for value in low],
        maximum=[_short(value) for value in high],
        speech_probs=[_short(value) for value in probs],
        hop_samples=hop_samples,
        threshold=threshold,
        segments=[(int(start), int(end)) for start, end in segments],
    )


def _short(value: float) -> float:
    """Four digits: for drawing only."""
    return float(f"{float(value):.4g}")
