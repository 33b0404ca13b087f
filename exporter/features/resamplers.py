"""A recording brought to a pipeline's sample rate, in the ways in which programs do it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from exporter.cases.resample import sinc


def resampled(
    waveform: np.ndarray, from_hz: int, to_hz: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """``waveform`` ``[N]`` at ``to_hz`` by method, and the methods that are not installed."""
    signals: dict[str, np.ndarray] = {}
    missing: list[str] = []
    for name, way in _WAYS.items():
        try:
            signals[name] = np.asarray(way(waveform.astype(np.float64), from_hz, to_hz))
        except ImportError:
            missing.append(name)
    return signals, missing


def _linear(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    places = np.arange(math.ceil(len(waveform) * to_hz / from_hz)) * from_hz / to_hz
    return np.interp(places, np.arange(len(waveform)), waveform)


def _nearest(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    places = np.arange(len(waveform) * to_hz // from_hz) * from_hz // to_hz
    return waveform[places]


def _fourier(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    count = math.ceil(len(waveform) * to_hz / from_hz)
    spectrum = np.fft.rfft(waveform)
    return np.fft.irfft(spectrum[: count // 2 + 1], count) * count / len(waveform)


def _polyphase(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    signal: Any = importlib.import_module("scipy.signal")
    common = math.gcd(from_hz, to_hz)
    return signal.resample_poly(waveform, to_hz // common, from_hz // common)


def _soxr(quality: str) -> Callable[[np.ndarray, int, int], np.ndarray]:
    def way(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
        soxr: Any = importlib.import_module("soxr")
        return soxr.resample(waveform, from_hz, to_hz, quality=quality)

    return way


_WAYS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "sinc": sinc,
    "polyphase": _polyphase,
    "soxr HQ": _soxr("HQ"),
    "soxr VHQ": _soxr("VHQ"),
    "soxr LQ": _soxr("LQ"),
    "linear": _linear,
    "nearest": _nearest,
    "Fourier": _fourier,
    "not resampled": lambda waveform, from_hz, to_hz: waveform,
}
"""torchaudio's is ``sinc``, scipy's and NeMo's ``polyphase``, librosa's ``soxr HQ``."""
