"""A recording and its answer, reduced to a few numbers: what drift is looked for in.

The unit is a recording, not a frame: frames of one recording are not independent, and a test that
took them for it would raise an alarm for every long speaker.

Spectra are taken of at most ``MOST_FRAMES`` frames, spread over the recording, so that an hour of
audio costs what ten seconds do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from exporter.graph.segment_split import SEGMENTS

FRAME = 512
BLOCK = 80
MOST_FRAMES = 128
PART = 1 << 14
"""Samples that are looked at in one go: new memory of more than some 100 kB costs more than all
that is computed in it."""
_GROUP = 32
"""Frames, for the same reason."""
QUIETEST_DB = -120.0
_BANDS = 24
_NEAR_PEAK = 0.998
_WINDOW = np.hanning(FRAME).astype(np.float32)
_EDGES = np.unique(np.geomspace(2, FRAME // 2 + 1, _BANDS + 1).astype(np.int64))
"""Of the bands, in bins of a frame's spectrum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a number of a recording is.

    Attributes:
        unit: for people. least: the smallest move that is worth an alarm, in that unit.
        below, above: whether a move in that direction is.
    """

    name: str
    unit: str
    least: float
    below: bool = True
    above: bool = True


SIGNALS = (
    Signal(name="level_db", unit="dB of full scale, where it is loud", least=3.0),
    Signal(name="floor_db", unit="dB of full scale, where it is quiet", least=6.0),
    Signal(name="peak_share", unit="share of samples at the peak", least=0.001, below=False),
    Signal(name="dc_ratio", unit="mean over rms", least=0.02, below=False),
    Signal(name="bandwidth_hz", unit="Hz up to which there is sound", least=500.0),
    Signal(name="high_band_db", unit="dB above 4 kHz, of all", least=6.0),
    Signal(name="low_band_db", unit="dB below 90 Hz, of all", least=6.0),
    Signal(name="tilt_db", unit="dB of fast changes, of all", least=3.0),
    Signal(name="feature_mean", unit="mean log energy of bands, level taken off", least=0.5),
    Signal(name="zero_share", unit="share of digital zero inside of the recording", least=0.02),
    Signal(name="speech_share", unit="share of the recording", least=0.1),
    Signal(name="segments_per_minute", unit="1/min", least=3.0),
    Signal(name="segment_s", unit="s, mean", least=1.0),
    Signal(name="tokens_per_s", unit="1/s of speech", least=0.5),
    Signal(name="empty", unit="1 for no result", least=0.0, below=False),
    Signal(name="repeated_share", unit="share of repeated pairs of tokens", least=0.1, below=False),
    Signal(name="nonfinite", unit="values that are NaN or infinite", least=0.0, below=False),
)
"""Of the serving process. What a file does not give (no tokens, no segments) is left out."""


def signals_of(
    waveform: np.ndarray, sample_rate_hz: int, arrays: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The signals of one recording.

    Args:
        waveform: ``[N]`` float32, N >= 1.
        arrays: the file's outputs by name.

    Returns:
        Finite numbers by name, always in the order of ``SIGNALS``.
    """
    wave = np.ascontiguousarray(waveform, np.float32)
    broken, power = 0, _energy(wave) / len(wave)
    if not math.isfinite(power):
        broken = len(wave) - int(np.isfinite(wave).sum())
        wave = np.nan_to_num(wave, posinf=0.0, neginf=0.0)
        power = _energy(wave) / len(wave)
    return {
        **_sound(wave, power, sample_rate_hz),
        **_speech(arrays, len(wave) / sample_rate_hz, sample_rate_hz),
        "nonfinite": float(
            sum(v.size - np.isfinite(v).sum() for v in arrays.values() if v.dtype.kind == "f")
            + broken
        ),
    }


def _sound(wave: np.ndarray, power: float, rate: int) -> dict[str, float]:
    """Of a finite ``wave`` with the mean square ``power``."""
    rms = math.sqrt(power)
    powers, spectrum = _powers_and_spectrum(wave)
    levels = _db(np.sort(powers))
    peak = float(max(wave.max(), -wave.min()))
    near, slope = 0, 0.0
    for start in range(0, len(wave), PART):
        part = wave[start : start + PART + 1]
        near += np.count_nonzero(np.abs(part[:PART]) >= _NEAR_PEAK * peak)
        slope += _energy(part[1:] - part[:-1])
    hertz = np.fft.rfftfreq(FRAME, 1 / rate)
    total = float(spectrum.sum())
    heard = np.flatnonzero(spectrum > 1e-6 * spectrum.max()) if total else np.zeros(1, np.int64)
    return {
        "level_db": float(levels[int(0.9 * (len(levels) - 1))]),
        "floor_db": float(levels[int(0.1 * (len(levels) - 1))]),
        "peak_share": near / len(wave) if peak else 0.0,
        "dc_ratio": abs(float(wave.mean())) / rms if rms else 0.0,
        "bandwidth_hz": float(hertz[heard[-1]]),
        "high_band_db": _ratio_db(float(spectrum[hertz > rate / 4].sum()), total),
        "low_band_db": _ratio_db(float(spectrum[hertz < 90].sum()), total),
        "tilt_db": _ratio_db(slope / max(1, len(wave) - 1), power),
        "feature_mean": _feature_mean(spectrum),
        "zero_share": _dropped(wave),
    }


def _energy(values: np.ndarray) -> float:
    """Sum of squares, without the copy that a square takes, and on this thread alone."""
    return float(np.einsum("i,i->", values, values))


def _powers_and_spectrum(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all frames, or so many of them, spread evenly; a short recording is filled up.

    Returns:
        The mean square of each, ``[F]``, and the mean of their power spectra, ``[FRAME / 2 + 1]``.
    """
    count = len(wave) // FRAME
    if count:
        frames = wave[: count * FRAME].reshape(count, FRAME)
    else:
        frames, count = np.pad(wave, (0, FRAME - len(wave))).reshape(1, FRAME), 1
    chosen = np.linspace(0, count - 1, min(count, MOST_FRAMES)).astype(np.int64)
    powers, spectrum = [], np.zeros(FRAME // 2 + 1)
    for start in range(0, len(chosen), _GROUP):
        group = frames[chosen[start : start + _GROUP]]
        powers.append(np.einsum("fn,fn->f", group, group) / FRAME)
        bins = np.fft.rfft(group * _WINDOW, axis=1)
        spectrum += np.einsum("fb,fb->b", bins.real, bins.real)
        spectrum += np.einsum("fb,fb->b", bins.imag, bins.imag)
    return np.concatenate(powers), spectrum / len(chosen)


def _dropped(wave: np.ndarray) -> float:
    """Share of blocks of 5 ms of digital zero, between the first and the last that is not."""
    count = max(1, len(wave) // BLOCK)
    blocks = wave[: count * BLOCK].reshape(count, -1)
    silent = np.flatnonzero(blocks[:, 0] == 0)  # only these can be zero all over
    silent = silent[~blocks[silent].any(axis=1)]
    heard = np.ones(count, bool)
    heard[silent] = False
    places = np.flatnonzero(heard)
    inside = heard[places[0] : places[-1] + 1] if len(places) else heard[:0]
    return float((~inside).mean()) if len(inside) else 0.0


def _feature_mean(spectrum: np.ndarray) -> float:
    """Mean of the bands' log energies, less the log of their sum: where the energy lies."""
    bands = np.add.reduceat(spectrum, _EDGES[:-1]) + 1e-12
    return float(np.mean(np.log(bands)) - math.log(float(bands.sum())))


def _db(power: np.ndarray) -> np.ndarray:
    return np.maximum(10 * np.log10(np.maximum(power, 1e-30)), QUIETEST_DB)


def _ratio_db(part: float, whole: float) -> float:
    if whole <= 0:
        return 0.0
    return max(10 * math.log10(max(part / whole, 1e-30)), QUIETEST_DB)


def _speech(arrays: Mapping[str, np.ndarray], seconds: float, rate: int) -> dict[str, float]:
    signals: dict[str, float] = {}
    spoken = seconds
    if SEGMENTS in arrays:
        lengths = np.diff(arrays[SEGMENTS].astype(np.float64), axis=1) / rate
        spoken = float(lengths.sum())
        signals["speech_share"] = spoken / seconds
        signals["segments_per_minute"] = 60 * len(lengths) / seconds
        signals["segment_s"] = float(lengths.mean()) if len(lengths) else 0.0
    if {"token_ids", "token_lengths"} <= set(arrays):
        rows = [
            ids[:count]
            for ids, count in zip(arrays["token_ids"], arrays["token_lengths"], strict=True)
        ]
        tokens = np.concatenate([*rows, np.zeros(0, np.int64)])
        signals["tokens_per_s"] = len(tokens) / spoken if spoken else 0.0
        signals["empty"] = float(not len(tokens))
        signals["repeated_share"] = _repeated(tokens)
    return signals


def _repeated(tokens: np.ndarray) -> float:
    """Share of neighbouring pairs that stood there before: a decoder that goes round in circles."""
    if len(tokens) < 3:
        return 0.0
    numbers = tokens.tolist()
    return 1 - len(set(itertools.pairwise(numbers))) / (len(numbers) - 1)
