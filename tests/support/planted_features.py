"""Features of other programs with one thing different, and the parameter that is so.

The baseline is SenseVoice's front end (Hamming window, 25 ms every 10 ms, 80 mels, samples in the
range of int16). kaldi-native-fbank makes the features wherever it can, numpy what it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kaldi_native_fbank as knf
import numpy as np

RATE = 16000
SHIFT, SCALE = np.full(560, -9.0), np.linspace(0.2, 0.3, 560)
"""Fixed statistics that features of 7 stacked frames are normalised with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One difference: what a report calls the parameter, how it is made, and the features."""

    parameter: str
    words: str
    make: Callable[[np.ndarray], np.ndarray]


def kaldi(waveform: np.ndarray, *, scale: float = 32768.0, **given: Any) -> np.ndarray:
    """``[T, D]`` by kaldi-native-fbank; options of frames, mels and the whole by their names."""
    options = knf.FbankOptions()
    held: dict[str, Any] = {"window_type": "hamming", "dither": 0.0, "num_bins": 80, **given}
    for name, value in held.items():
        part = next(p for p in (options.frame_opts, options.mel_opts, options) if hasattr(p, name))
        setattr(part, name, value)
    made = knf.OnlineFbank(options)
    made.accept_waveform(RATE, (waveform * np.float32(scale)).tolist())
    made.input_finished()
    return np.stack([made.get_frame(at) for at in range(made.num_frames_ready)])


def stacked(frames: np.ndarray, size: int = 7, stride: int = 6) -> np.ndarray:
    """Low frame rate as FunASR does it, a frame at a time."""
    padded = np.concatenate([np.repeat(frames[:1], (size - 1) // 2, 0), frames])
    rows = []
    for start in range(0, len(frames), stride):
        row = padded[start : start + size]
        rows.append(np.concatenate([row, np.repeat(row[-1:], size - len(row), 0)]).reshape(-1))
    return np.stack(rows)


def _by(**given: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda waveform: kaldi(waveform, **given)


def _centred(waveform: np.ndarray) -> np.ndarray:
    return kaldi(np.pad(waveform, 200, mode="reflect"))


def _normalised(padding: int, *, deviation: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    def make(waveform: np.ndarray) -> np.ndarray:
        frames = kaldi(waveform)
        floor = np.full((padding, 80), np.log(np.finfo(np.float32).eps), np.float32)
        counted = np.concatenate([frames, floor])
        return (frames - counted.mean(0)) / (counted.std(0) if deviation else 1)

    return make


def _signal(waveform: np.ndarray) -> np.ndarray:
    emphasised = np.append(waveform[:1], waveform[1:] - np.float32(0.97) * waveform[:-1])
    return kaldi(emphasised, preemph_coeff=0.0)


PLANTED = (
    Planted(parameter="dither", words="dither 1.0, Kaldi's default", make=_by(dither=1.0)),
    Planted(parameter="dither", words="dither 0.1", make=_by(dither=0.1)),
    Planted(parameter="sample scale", words="samples in [-1, 1]", make=_by(scale=1.0)),
    Planted(parameter="window", words="povey", make=_by(window_type="povey")),
    Planted(parameter="window", words="hann", make=_by(window_type="hanning")),
    Planted(parameter="pre-emphasis", words="none", make=_by(preemph_coeff=0.0)),
    Planted(parameter="pre-emphasis", words="0.93", make=_by(preemph_coeff=0.93)),
    Planted(parameter="pre-emphasis", words="0.97 of the whole signal", make=_signal),
    Planted(
        parameter="mel scale",
        words="Slaney's",
        make=_by(is_librosa=True, use_slaney_mel_scale=True, norm=""),
    ),
    Planted(
        parameter="mel scale",
        words="HTK's, triangles in Hz",
        make=_by(is_librosa=True, use_slaney_mel_scale=False, norm=""),
    ),
    Planted(parameter="low frequency", words="64 Hz", make=_by(low_freq=64)),
    Planted(parameter="high frequency", words="400 Hz less", make=_by(high_freq=-400)),
    Planted(parameter="high frequency", words="7350 Hz", make=_by(high_freq=7350)),
    Planted(parameter="edges and padding", words="snip_edges off", make=_by(snip_edges=False)),
    Planted(parameter="edges and padding", words="centred, mirrored", make=_centred),
    Planted(parameter="normalisation", words="per feature", make=_normalised(0)),
    Planted(parameter="normalisation", words="over 120 frames of padding", make=_normalised(120)),
    Planted(
        parameter="normalisation",
        words="the mean alone, over 57 frames of padding",
        make=_normalised(57, deviation=False),
    ),
    Planted(parameter="hop", words="12.5 ms", make=_by(frame_shift_ms=12.5)),
    Planted(parameter="frame length", words="20 ms", make=_by(frame_length_ms=20)),
    Planted(parameter="frame length", words="32 ms", make=_by(frame_length_ms=32)),
    Planted(parameter="first frame", words="the first is missing", make=lambda x: kaldi(x)[1:]),
    Planted(parameter="last frame", words="the last is missing", make=lambda x: kaldi(x)[:-1]),
    Planted(parameter="sample offset", words="a sample late", make=lambda x: kaldi(x[1:])),
    Planted(parameter="FFT size", words="400", make=_by(round_to_power_of_two=False)),
    Planted(parameter="logarithm", words="base 10", make=lambda x: kaldi(x) / np.log(10)),
    Planted(parameter="logarithm", words="none", make=_by(use_log_fbank=False)),
    Planted(
        parameter="log floor",
        words="e^8 at least",
        make=lambda x: np.maximum(kaldi(x), 8.0),
    ),
    Planted(parameter="power or magnitude", words="magnitude", make=_by(use_power=False)),
    Planted(parameter="number of mels", words="64", make=_by(num_bins=64)),
    Planted(parameter="energy", words="a column in front", make=_by(use_energy=True)),
    Planted(parameter="DC removal", words="off", make=_by(remove_dc_offset=False)),
    Planted(
        parameter="low frame rate", words="7 frames, every 6", make=lambda x: stacked(kaldi(x))
    ),
)
"""Every parameter that the search has, but for the resampler and fixed statistics."""
