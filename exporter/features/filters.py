"""Triangular mel filters as the programs make them, empty ones too."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

MelScale = Literal["kaldi", "htk", "slaney"]
_LINEAR_HZ, _LINEAR_UP_TO_HZ = 200.0 / 3, 1000.0
_LOG_STEP = np.log(6.4) / 27.0


@functools.lru_cache(maxsize=256)
def mel_filters(
    scale: MelScale,
    area: bool,
    num_mels: int,
    n_fft: int,
    sample_rate_hz: int,
    low_hz: float,
    high_hz: float,
) -> np.ndarray:
    """Filters ``[n_fft // 2 + 1, num_mels]`` float64.

    Args:
        scale: ``kaldi``: straight on HTK's mel scale, the Nyquist bin left out; ``htk``: at the
            same places, straight in Hz; ``slaney``: on Slaney's scale, straight in Hz.
        area: divide each by half its width in Hz, as Slaney's toolbox does.
    """
    to_mel, to_hz = _SCALES[scale]
    low, high = to_mel(np.array([low_hz, high_hz]))
    edges = np.linspace(low, high, num_mels + 2)
    hz = to_hz(edges)
    at = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    places, corners = (to_mel(at), edges) if scale == "kaldi" else (at, hz)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising = (places[:, None] - left) / (centre - left)
        falling = (right - places[:, None]) / (right - centre)
    filters = np.clip(np.nan_to_num(np.minimum(rising, falling), posinf=0, neginf=0), 0, None)
    if scale == "kaldi":
        filters[-1] = 0
    return filters * (2.0 / (hz[2:] - hz[:-2])) if area else filters


def _htk(hz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(hz / 700.0)


def _htk_hz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * np.expm1(mel / 1127.0)


def _slaney(hz: np.ndarray) -> np.ndarray:
    above = np.maximum(hz, _LINEAR_UP_TO_HZ)
    logs = _LINEAR_UP_TO_HZ / _LINEAR_HZ + np.log(above / _LINEAR_UP_TO_HZ) / _LOG_STEP
    return np.where(hz < _LINEAR_UP_TO_HZ, hz / _LINEAR_HZ, logs)


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    start = _LINEAR_UP_TO_HZ / _LINEAR_HZ
    above = _LINEAR_UP_TO_HZ * np.exp((np.maximum(mel, start) - start) * _LOG_STEP)
    return np.where(mel < start, mel * _LINEAR_HZ, above)


_SCALES = {"kaldi": (_htk, _htk_hz), "htk": (_htk, _htk_hz), "slaney": (_slaney, _slaney_hz)}
