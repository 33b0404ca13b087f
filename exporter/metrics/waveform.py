"""What two waveforms differ by, as it is heard: level, SI-SDR, log-spectral distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_WINDOW_MS, _HOP_MS = 32.0, 8.0
_FLOOR = 1e-10
"""Of a power, relative to the loudest bin: 100 dB below it nothing is heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One waveform against the expected one.

    Attributes:
        level_db: rms of the actual over that of the expected one; None where one is silent.
        si_sdr_db: scale-invariant signal-to-distortion ratio (Le Roux et al., 2019); inf where
            they are the same up to a factor, None where the expected one is silent.
        log_spectral_distance_db: rms over bins, mean over frames of 32 ms every 8 ms.
        max_error: largest difference of two samples.
    """

    level_db: float | None
    si_sdr_db: float | None
    log_spectral_distance_db: float | None
    max_error: float


def heard(expected: np.ndarray, actual: np.ndarray, sample_rate_hz: int) -> Heard:
    """Compare two waveforms of one shape ``[..., N]``; rows count one behind the other.

    Raises:
        ValueError: shapes differ, there are no samples, or a sample is no number.
    """
    if expected.shape != actual.shape or not expected.size:
        raise ValueError(f"shapes {list(expected.shape)} and {list(actual.shape)}")
    left = np.asarray(expected, dtype=np.float64).reshape(-1)
    right = np.asarray(actual, dtype=np.float64).reshape(-1)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("a sample is NaN or infinite")
    return Heard(
        level_db=_level(left, right),
        si_sdr_db=si_sdr_db(left, right),
        log_spectral_distance_db=_spectral(left, right, sample_rate_hz),
        max_error=float(np.abs(left - right).max()),
    )


def si_sdr_db(expected: np.ndarray, actual: np.ndarray) -> float | None:
    """Scale-invariant SDR of two waveforms [N] in float64."""
    power = float(expected @ expected)
    if power == 0.0:
        return None
    target = expected * (float(actual @ expected) / power)
    rest = actual - target
    noise, signal = float(rest @ rest), float(target @ target)
    if noise == 0.0:
        return math.inf if signal > 0.0 else -math.inf
    return 10 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def _level(left: np.ndarray, right: np.ndarray) -> float | None:
    before, after = float(left @ left), float(right @ right)
    return 10 * math.log10(after / before) if before > 0.0 and after > 0.0 else None


def _spectral(left: np.ndarray, right: np.ndarray, sample_rate_hz: int) -> float | None:
    size, hop = (round(sample_rate_hz * ms / 1000) for ms in (_WINDOW_MS, _HOP_MS))
    powers = [_power(samples, size, hop) for samples in (left, right)]
    loudest = max(float(power.max()) for power in powers)
    if loudest == 0.0:
        return None
    logs = [10 * np.log10(np.maximum(power, _FLOOR * loudest)) for power in powers]
    return float(np.sqrt(((logs[0] - logs[1]) ** 2).mean(axis=1)).mean())


def _power(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """[frames, bins]; a waveform shorter than a window is padded with zeros."""
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
