"""A recording at another sample rate, brought to that of a pipeline outside of the graph."""

from __future__ import annotations

import math

import numpy as np

from exporter.core.errors import AudioError

_MOST = 1 << 25
"""Values of all kernels, 256 MB: a header may announce any rate."""


def sinc(waveform: np.ndarray, from_hz: int, to_hz: int, *, zeros: int = 6) -> np.ndarray:
    """Windowed sinc with a Hann window, rolled off at 0.99, as ``torchaudio.functional.resample``.

    Args:
        waveform: ``[N]``. zeros: zero crossings on either side.

    Returns:
        ``[ceil(N * to_hz / from_hz)]`` float64. Source: J. O. Smith, Digital Audio Resampling,
        https://ccrma.stanford.edu/~jos/resample.

    Raises:
        AudioError: the rates have too small a common divisor for one kernel a phase.
    """
    common = math.gcd(from_hz, to_hz)
    down, up = from_hz // common, to_hz // common
    base = min(down, up) * 0.99
    width = math.ceil(zeros * down / base)
    if up * (2 * width + down) > _MOST:
        raise AudioError(
            f"is sampled at {from_hz} Hz, which has next to nothing in common with {to_hz} Hz",
            remedy=f"resample it with another program: sox IN -r {to_hz} OUT",
        )
    index = np.arange(-width, width + down) / down
    at = (index[None, :] - np.arange(up)[:, None] / up) * base
    at = np.clip(at, -zeros, zeros)
    kernels = np.sinc(at) * np.cos(at * np.pi / zeros / 2) ** 2 * base / down
    padded = np.pad(waveform.astype(np.float64), (width, width + down))
    rows = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1])[::down]
    return (rows @ kernels.T).reshape(-1)[: math.ceil(up * len(waveform) / down)]
