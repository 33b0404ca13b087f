"""A log mel front end with every choice that programs make differently, in float64.

    waveform -> (offset, pre-emphasis) -> frames -> (dither, DC, pre-emphasis) . window
             -> |DFT|^power -> mel filters -> log -> normalisation over the utterance
             -> stacked -> fixed statistics

It is for reading other programs' features, not for export: what is exported is in
``exporter/speech``. Sources: Kaldi's ``feat/feature-window.cc`` and ``feature-fbank.cc``; librosa's
``stft`` and ``filters.mel``; ``torchaudio.transforms.MelSpectrogram``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from exporter.features.filters import MelScale, mel_filters
from exporter.speech.fbank import FLOAT32_EPSILON, window_values

Framing = Literal["snip", "snip_fft", "kaldi", "centre_reflect", "centre_zero", "half_hop_reflect"]
Log = Literal["ln", "log10", "db", "db_top80", "db_of_max", "none", "whisper"]
Normalisation = Literal["none", "mean", "mean_std", "mean_over_all", "mean_std_over_all"]
DRAWS = 4
"""Draws of dither whose mean stands for what cannot be drawn again."""
_KEPT = 24


class ImpossibleError(ValueError):
    """Sizes that no frame fits: nothing to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """One set of choices; the defaults are Kaldi's for speech at 16 kHz.

    Attributes:
        resampler: how a recording at another rate came to this one, see ``resamplers``; "none".
        scale: factor on samples in [-1, 1].
        sample_offset: samples by which their first frame begins later.
        frame, shift: in samples. n_fft: at least ``frame``.
        framing: ``snip``: whole frames alone; ``snip_fft``: whole transforms alone, the window in
            their middle; ``kaldi``: snip_edges off, ends mirrored;
            ``centre_*``: frames of ``n_fft`` around multiples of ``shift``, ends mirrored or zero;
            ``half_hop_reflect``: (n_fft - shift) / 2 mirrored, as vocoders do.
        dither: standard deviation of noise that is added to the scaled samples.
        remove_dc: each frame loses its mean.
        preemphasis, preemphasis_of: coefficient, and whether of each frame or of the signal.
        power: of the magnitude, 1 or 2.
        mel, mel_area: shape of the filters; area: divided by their width, as Slaney does.
        low_hz, high_hz: the band.
        log, floor, floor_added: base; what a value is at least, or what is added to it.
        energy: a column with the log energy of the frame: "none", "first" or "last".
        raw_energy: taken before pre-emphasis and window.
        normalise, padded_frames: over the utterance, with so many frames of silence behind it.
        stack, stride: low frame rate; 1 and 1 for none.
        statistics: name of fixed statistics in the ``Material``; "none".
        first_frame: frames by which theirs begin later.
    """

    sample_rate_hz: int = 16000
    resampler: str = "none"
    scale: float = 32768.0
    sample_offset: int = 0
    frame: int = 400
    shift: int = 160
    n_fft: int = 512
    framing: Framing = "snip"
    dither: float = 0.0
    remove_dc: bool = True
    preemphasis: float = 0.97
    preemphasis_of: Literal["frame", "signal", "signal_librosa"] = "frame"
    window: str = "povey"
    power: int = 2
    mel: MelScale = "kaldi"
    mel_area: bool = False
    low_hz: float = 20.0
    high_hz: float = 8000.0
    num_mels: int = 80
    log: Log = "ln"
    floor: float = FLOAT32_EPSILON
    floor_added: bool = False
    energy: Literal["none", "first", "last"] = "none"
    raw_energy: bool = True
    normalise: Normalisation = "none"
    padded_frames: int = 0
    stack: int = 1
    stride: int = 1
    statistics: str = "none"
    first_frame: int = 0

    @property
    def width(self) -> int:
        """Values of a frame."""
        return (self.num_mels + (self.energy != "none")) * self.stack


@dataclass(frozen=True, slots=True)
class Material:
    """What features are made of.

    Attributes:
        waveforms: ``[N]`` in [-1, 1] at the rate of the front end, by resampler.
        statistics: shift and scale ``[D]``, by name.
    """

    waveforms: Mapping[str, np.ndarray]
    statistics: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    _kept: dict[tuple, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(
        default_factory=dict, repr=False
    )

    def features(self, front_end: FrontEnd, *, draw: int | None = None) -> np.ndarray:
        """``[T, D]`` float64; with dither the mean of some draws, or one ``draw``.

        Raises:
            ImpossibleError: no frame fits.
        """
        if front_end.dither and draw is None:
            return np.mean([self.features(front_end, draw=k) for k in range(DRAWS)], axis=0)
        spectrum, energy, raw = self._spectrum(front_end, draw or 0)
        if len(spectrum) == 0:
            raise ImpossibleError("the recording is shorter than a frame")
        values = spectrum if front_end.power == 2 else np.sqrt(spectrum)
        logs = _log(values @ _filters(front_end), front_end)
        if front_end.energy != "none":
            measured = raw if front_end.raw_energy else energy
            column = np.log(np.maximum(measured, FLOAT32_EPSILON))[:, None]
            parts = [column, logs] if front_end.energy == "first" else [logs, column]
            logs = np.concatenate(parts, axis=1)
        logs = _stacked(_normalised(logs, front_end), front_end)
        if front_end.statistics != "none":
            shift, scale = self.statistics[front_end.statistics]
            if len(shift) != logs.shape[1]:
                raise ImpossibleError("statistics of another width")
            logs = (logs + shift) * scale
        return logs[front_end.first_frame :] if front_end.first_frame > 0 else logs

    def _spectrum(self, p: FrontEnd, draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Power ``[T, n_fft / 2 + 1]``, and energies ``[T]`` behind and before the window."""
        key = (
            *(p.resampler, p.scale, p.sample_offset, p.frame, p.shift, p.n_fft, p.framing),
            *(p.dither, p.remove_dc, p.preemphasis, p.preemphasis_of, p.window, draw),
        )
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = _power(self.waveforms[p.resampler], p, draw)
        return self._kept[key]


def _power(
    waveform: np.ndarray, p: FrontEnd, draw: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    samples = waveform.astype(np.float64) * p.scale
    if p.sample_offset > 0:
        samples = samples[p.sample_offset :]
    elif p.sample_offset < 0:
        samples = np.concatenate([np.zeros(-p.sample_offset), samples])
    noise = np.random.Generator(np.random.PCG64(draw))
    if p.preemphasis_of != "frame" and p.preemphasis:
        if p.dither:  # noise goes into the signal before anything else does
            samples = samples + p.dither * noise.standard_normal(len(samples))
        first = samples[:1]
        if p.preemphasis_of == "signal_librosa":  # its filter starts from an extrapolated sample
            first = 3 * samples[:1] - samples[1:2]
        samples = np.append(first, samples[1:] - p.preemphasis * samples[:-1])
    frames = _frames(samples, p)
    if p.dither and (p.preemphasis_of == "frame" or not p.preemphasis):
        frames = frames + p.dither * noise.standard_normal(frames.shape)
    if p.remove_dc:
        frames = frames - frames.mean(axis=1, keepdims=True)
    raw = (frames * frames).sum(axis=1)
    if p.preemphasis_of == "frame" and p.preemphasis:
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        frames = frames - p.preemphasis * before
    frames = frames * window(p.window, p.frame)
    energy = (frames * frames).sum(axis=1)
    spectrum = np.fft.rfft(frames, p.n_fft, axis=1)
    return spectrum.real**2 + spectrum.imag**2, energy, raw


def window(name: str, size: int) -> np.ndarray:
    """A window ``[size]``; ``<name>_periodic`` is the one of a size more, without its end."""
    stem = name.removesuffix("_periodic")
    return window_values(stem, size + (stem != name))[:size]


def _frames(samples: np.ndarray, p: FrontEnd) -> np.ndarray:
    count = len(samples)
    if p.frame > p.n_fft or p.frame < 2 or p.shift < 1:
        raise ImpossibleError("a frame does not fit its transform")
    if p.framing == "snip":
        return _strided(samples, p.frame, p.shift, 1 + (count - p.frame) // p.shift)
    if p.framing == "kaldi":
        number = (count + p.shift // 2) // p.shift
        first = p.shift // 2 - p.frame // 2
        behind = max((number - 1) * p.shift + first + p.frame - count, 0)
        padded = _padded(samples, max(-first, 0), behind, "symmetric")[max(first, 0) :]
        return _strided(padded, p.frame, p.shift, number)
    margin = {"snip_fft": 0, "half_hop_reflect": max(p.n_fft - p.shift, 0) // 2}.get(
        p.framing, p.n_fft // 2
    )
    padded = _padded(samples, margin, margin, "constant" if "zero" in p.framing else "reflect")
    inside = padded[(p.n_fft - p.frame) // 2 :]
    return _strided(inside, p.frame, p.shift, 1 + (len(padded) - p.n_fft) // p.shift)


def _padded(
    samples: np.ndarray, before: int, behind: int, mode: Literal["constant", "reflect", "symmetric"]
) -> np.ndarray:
    if mode != "constant" and max(before, behind) >= len(samples):
        raise ImpossibleError("the recording is shorter than what is mirrored")
    return np.pad(samples, (before, behind), mode=mode)


def _strided(samples: np.ndarray, size: int, shift: int, number: int) -> np.ndarray:
    if number < 1:
        raise ImpossibleError("the recording is shorter than a frame")
    return np.lib.stride_tricks.sliding_window_view(samples, size)[::shift][:number]


def _filters(p: FrontEnd) -> np.ndarray:
    return mel_filters(
        p.mel, p.mel_area, p.num_mels, p.n_fft, p.sample_rate_hz, p.low_hz, p.high_hz
    )


def _log(energies: np.ndarray, p: FrontEnd) -> np.ndarray:
    if p.log == "none":
        return energies
    floored = energies + p.floor if p.floor_added else np.maximum(energies, p.floor)
    if p.log == "ln":
        return np.log(floored)
    if p.log.startswith("db"):
        decibels = 10 * np.log10(floored)
        if p.log == "db_of_max":
            decibels = decibels - decibels.max()
        return decibels if p.log == "db" else np.maximum(decibels, decibels.max() - 80)
    logs = np.log10(floored)
    return logs if p.log == "log10" else (np.maximum(logs, logs.max() - 8) + 4) / 4


def silent(p: FrontEnd) -> float:
    """The value of every feature where there is no sound, before any normalisation."""
    unfloored = replace(p, floor=max(p.floor, 1e-30), log="db" if p.log.startswith("db") else p.log)
    return float(_log(np.zeros((1, 1)), unfloored)[0, 0])


def _normalised(logs: np.ndarray, p: FrontEnd) -> np.ndarray:
    if p.normalise == "none":
        return logs
    axis = None if p.normalise.endswith("over_all") else 0
    counted = logs
    if p.padded_frames:
        silence = np.full((p.padded_frames, logs.shape[1]), silent(p))
        counted = np.concatenate([logs, silence])
    centred = logs - counted.mean(axis=axis, keepdims=True)
    if p.normalise in ("mean", "mean_over_all"):
        return centred
    return centred / np.maximum(counted.std(axis=axis, keepdims=True), 1e-5)


def _stacked(logs: np.ndarray, p: FrontEnd) -> np.ndarray:
    if p.stack == 1 and p.stride == 1:
        return logs
    steps = -(-len(logs) // p.stride)
    wanted = np.arange(steps)[:, None] * p.stride + np.arange(p.stack) - (p.stack - 1) // 2
    return logs[np.clip(wanted, 0, len(logs) - 1)].reshape(steps, -1)
