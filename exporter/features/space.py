"""The parameters that are tried, and the values that each may have.

A ``ParameterChange`` sets one parameter; some set two fields (a frame of 32 ms has a transform of
512). Values are those that programs have; the search moves numbers on in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exporter.features.front_end import FrontEnd, ImpossibleError, Material, silent
from exporter.speech.fbank import FLOAT32_EPSILON


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChange:
    """One parameter at another value: its name, and the fields that it sets."""

    parameter: str
    fields: tuple[tuple[str, Any], ...]

    def of(self, front_end: FrontEnd) -> FrontEnd:
        """The front end with this change."""
        return replace(front_end, **dict(self.fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What a report calls one or several fields of a front end, and how it shows them."""

    name: str
    fields: tuple[str, ...]
    show: Callable[[FrontEnd], str]


def _ms(samples: int, p: FrontEnd) -> str:
    return f"{1000 * samples / p.sample_rate_hz:g} ms ({samples} samples)"


_FRAMINGS = {
    "snip": "whole frames only (snip_edges)",
    "snip_fft": "whole transforms only (center off)",
    "kaldi": "snip_edges off, ends mirrored",
    "centre_reflect": "centred, ends mirrored",
    "centre_zero": "centred, zeros at the ends",
    "half_hop_reflect": "(n_fft - hop) / 2 mirrored at the ends",
}
_SCALES = {
    "kaldi": "HTK's, triangles in mel (Kaldi)",
    "htk": "HTK's, triangles in Hz",
    "slaney": "Slaney's",
}
_LOGS = {
    "ln": "natural",
    "log10": "base 10",
    "db": "decibels",
    "db_top80": "decibels, 80 below the loudest at least",
    "db_of_max": "decibels under the loudest, -80 at least",
    "none": "none",
    "whisper": "Whisper's",
}
_NORMALISED = {
    "none": "none",
    "mean": "mean of each feature",
    "mean_std": "mean and deviation of each feature",
    "mean_over_all": "mean over all features",
    "mean_std_over_all": "mean and deviation over all features",
}


_EMPHASISED = {
    "frame": "each frame",
    "signal": "the signal",
    "signal_librosa": "the signal, begun as librosa does",
}
_RESAMPLER = {"none": "the case's own recording"}


def _floor(p: FrontEnd) -> str:
    return f"{p.floor:.3g} {'added' if p.floor_added else 'at least'}"


def _normalise(p: FrontEnd) -> str:
    behind = f", with {p.padded_frames} frames of padding" if p.padded_frames else ""
    return _NORMALISED[p.normalise] + behind


def _energy(p: FrontEnd) -> str:
    if p.energy == "none":
        return "none"
    return f"{p.energy} column, {'raw' if p.raw_energy else 'windowed'}"


PARAMETERS = (
    Parameter(
        name="number of mels",
        fields=("num_mels",),
        show=lambda p: str(p.num_mels),
    ),
    Parameter(name="energy", fields=("energy", "raw_energy"), show=_energy),
    Parameter(
        name="low frame rate",
        fields=("stack", "stride"),
        show=lambda p: f"{p.stack} frames, every {p.stride}",
    ),
    Parameter(
        name="resampler",
        fields=("resampler",),
        show=lambda p: _RESAMPLER.get(p.resampler, p.resampler),
    ),
    Parameter(name="hop", fields=("shift",), show=lambda p: _ms(p.shift, p)),
    Parameter(name="frame length", fields=("frame",), show=lambda p: _ms(p.frame, p)),
    Parameter(name="FFT size", fields=("n_fft",), show=lambda p: str(p.n_fft)),
    Parameter(name="edges and padding", fields=("framing",), show=lambda p: _FRAMINGS[p.framing]),
    Parameter(name="first frame", fields=("first_frame",), show=lambda p: f"{p.first_frame:+d}"),
    Parameter(
        name="sample offset", fields=("sample_offset",), show=lambda p: f"{p.sample_offset:+d}"
    ),
    Parameter(name="sample scale", fields=("scale",), show=lambda p: f"{p.scale:g}"),
    Parameter(
        name="dither",
        fields=("dither",),
        show=lambda p: f"{p.dither:g}" if p.dither else "off",
    ),
    Parameter(
        name="DC removal", fields=("remove_dc",), show=lambda p: "on" if p.remove_dc else "off"
    ),
    Parameter(
        name="pre-emphasis",
        fields=("preemphasis", "preemphasis_of"),
        show=lambda p: (
            f"{p.preemphasis:g} of {_EMPHASISED[p.preemphasis_of]}" if p.preemphasis else "none"
        ),
    ),
    Parameter(name="window", fields=("window",), show=lambda p: p.window),
    Parameter(
        name="power or magnitude",
        fields=("power",),
        show=lambda p: "power" if p.power == 2 else "magnitude",
    ),
    Parameter(name="mel scale", fields=("mel",), show=lambda p: _SCALES[p.mel]),
    Parameter(
        name="mel filter area",
        fields=("mel_area",),
        show=lambda p: "divided by its width (slaney)" if p.mel_area else "height 1",
    ),
    Parameter(name="low frequency", fields=("low_hz",), show=lambda p: f"{p.low_hz:g} Hz"),
    Parameter(name="high frequency", fields=("high_hz",), show=lambda p: f"{p.high_hz:g} Hz"),
    Parameter(name="logarithm", fields=("log",), show=lambda p: _LOGS[p.log]),
    Parameter(name="log floor", fields=("floor", "floor_added"), show=_floor),
    Parameter(name="normalisation", fields=("normalise", "padded_frames"), show=_normalise),
    Parameter(name="fixed statistics", fields=("statistics",), show=lambda p: p.statistics),
)
"""In the order in which the waveform meets most of them; a report lists differences so."""

PRESETS: Mapping[str, FrontEnd] = {
    "kaldi": FrontEnd(),
    "librosa": FrontEnd(
        scale=1.0, remove_dc=False, preemphasis=0.0, framing="centre_zero", low_hz=0.0,
        window="hanning_periodic", mel="slaney", mel_area=True, floor=1e-10, log="db", n_fft=512,
    ),
    "torchaudio": FrontEnd(
        scale=1.0, remove_dc=False, preemphasis=0.0, framing="centre_reflect", low_hz=0.0,
        window="hanning_periodic", mel="htk", floor=1e-10, n_fft=400,
    ),
    "whisper": FrontEnd(
        scale=1.0, remove_dc=False, preemphasis=0.0, framing="centre_reflect", low_hz=0.0,
        window="hanning_periodic", mel="slaney", mel_area=True, floor=1e-10, n_fft=400,
        log="whisper",
    ),
    "nemo": FrontEnd(
        scale=1.0, remove_dc=False, preemphasis_of="signal", framing="centre_reflect", low_hz=0.0,
        window="hanning", mel="slaney", mel_area=True, floor=2.0**-24, floor_added=True,
        normalise="mean_std",
    ),
    "vocoder": FrontEnd(
        scale=1.0, remove_dc=False, preemphasis=0.0, framing="half_hop_reflect", low_hz=0.0,
        window="hanning_periodic", mel="slaney", mel_area=True, floor=1e-5, power=1,
        frame=1024, n_fft=1024, shift=256,
    ),
}  # fmt: skip
"""Recipes to start from where nothing is known."""

_WINDOWS = ("povey", "hamming", "hanning", "hamming_periodic", "hanning_periodic", "blackman")
_AGAIN = 5
_BASES = {"ln": math.e, "log10": 10.0, "db": 10**0.1}
_FLOORS = (FLOAT32_EPSILON, 1e-10, 1e-5, 1e-6, 1e-8, 1e-12, 2.0**-24, 1e-3, 1.0)


def power_of_two(size: int) -> int:
    """The least power of two that holds so many samples."""
    return 1 << (size - 1).bit_length()


def changes(p: FrontEnd, theirs: np.ndarray, material: Material) -> Iterator[ParameterChange]:
    """Every single change of ``p`` that is tried against ``theirs`` ``[T, D]``."""
    rate = p.sample_rate_hz
    nyquist = rate / 2

    def one(parameter: str, **fields: Any) -> Iterator[ParameterChange]:
        if any(getattr(p, name) != value for name, value in fields.items()):
            yield ParameterChange(parameter=parameter, fields=tuple(fields.items()))

    def each(parameter: str, name: str, values: Sequence[Any]) -> Iterator[ParameterChange]:
        for value in dict.fromkeys(values):
            yield from one(parameter, **{name: value})

    yield from each("resampler", "resampler", tuple(material.waveforms))
    if p.stack > 1:
        yield from each("low frame rate", "stride", tuple(range(1, p.stack + 1)))
    yield from each("hop", "shift", _hops(p, theirs, material))
    lengths = [round(rate * ms / 1000) for ms in (*range(10, 41), 46.4, 50, 64)]
    for size in dict.fromkeys([*lengths, 256, 512, 1024, p.n_fft]):
        yield from one("frame length", frame=size, n_fft=max(power_of_two(size), 2))
        if size <= p.n_fft:
            yield from one("frame length", frame=size)
    sizes = (p.frame, power_of_two(p.frame), 2 * power_of_two(p.frame), 512, 1024, 2048)
    yield from each("FFT size", "n_fft", [size for size in sizes if size >= p.frame])
    yield from each("edges and padding", "framing", tuple(_FRAMINGS))
    yield from each("first frame", "first_frame", (0, 1, -1, 2, -2, 3, -3))
    yield from each("sample offset", "sample_offset", (0, 1, -1, p.shift // 2, -(p.shift // 2)))
    scales = (1.0, 32768.0, 32767.0, *_gain(p, theirs, material))
    yield from each("sample scale", "scale", scales)
    usual = (1.0, 0.1) if p.scale > 100 else (1e-5, 1 / 32768)  # Kaldi's, and NeMo's
    yield from each("dither", "dither", (0.0,) if p.dither else usual)
    yield from each("DC removal", "remove_dc", (True, False))
    for value in (0.97, 0.0, 0.95, 0.9, 0.98):
        yield from one("pre-emphasis", preemphasis=value)
    for of in _EMPHASISED:
        if p.preemphasis:
            yield from one("pre-emphasis", preemphasis_of=of)
        yield from one("pre-emphasis", preemphasis=0.97, preemphasis_of=of)
    yield from each("window", "window", (*_WINDOWS, "rectangular"))
    yield from each("power or magnitude", "power", (2, 1))
    for scale in ("kaldi", "htk", "slaney"):
        yield from one("mel scale", mel=scale)
        yield from one("mel scale", mel=scale, mel_area=scale == "slaney")
    yield from each("mel filter area", "mel_area", (False, True))
    yield from each("low frequency", "low_hz", (20.0, 0.0, 40.0, 50.0, 60.0, 80.0, 125.0))
    highs = [nyquist + off for off in (0.0, -100.0, -200.0, -400.0)]
    yield from each("high frequency", "high_hz", (*highs, 0.475 * rate, 3800.0, 4000.0))
    yield from each("logarithm", "log", tuple(_LOGS))
    for floor in (*_FLOORS, *_least(p, theirs)):
        yield from one("log floor", floor=floor, floor_added=False)
        yield from one("log floor", floor=floor, floor_added=True)
    for kind in _NORMALISED:
        yield from one("normalisation", normalise=kind, padded_frames=0)
        if kind != "none":
            frames = _padding(p, theirs, material, kind)
            if frames:
                yield from one("normalisation", normalise=kind, padded_frames=frames)
    yield from each("fixed statistics", "statistics", ("none", *material.statistics))
    if p.energy != "none":
        yield from each("energy", "energy", ("first", "last"))
        yield from each("energy", "raw_energy", (True, False))


def shapes(p: FrontEnd, width: int) -> Iterator[tuple[ParameterChange, ...]]:
    """The ways in which features like ``p`` become ``width`` values a frame."""
    per_frame = p.num_mels + (p.energy != "none")
    if p.width == width:
        yield ()
    elif width % per_frame == 0 and p.stack != width // per_frame:
        stack = width // per_frame
        for stride in dict.fromkeys((1 if stack == 1 else max(stack - 1, 1), stack, 1)):
            yield (_set("low frame rate", stack=stack, stride=stride),)
    for stack, stride in dict.fromkeys(((p.stack, p.stride), (1, 1))):
        if width % stack:
            continue
        narrow = () if stack == p.stack else (_set("low frame rate", stack=stack, stride=stride),)
        mels = width // stack
        if mels != per_frame:
            none = (_set("energy", energy="none"),) if p.energy != "none" else ()
            yield (*narrow, *none, _set("number of mels", num_mels=mels))
        for place in ("first", "last") if p.energy == "none" and mels > 1 else ():
            more = () if mels - 1 == p.num_mels else (_set("number of mels", num_mels=mels - 1),)
            yield (*narrow, _set("energy", energy=place), *more)
        if p.energy != "none" and mels == p.num_mels:
            yield (*narrow, _set("energy", energy="none"))


def _set(parameter: str, **fields: Any) -> ParameterChange:
    return ParameterChange(parameter=parameter, fields=tuple(fields.items()))


def _hops(p: FrontEnd, theirs: np.ndarray, material: Material) -> list[int]:
    """Hops that programs have, and those that give about as many frames as there are."""
    rate = p.sample_rate_hz
    count = len(material.waveforms[p.resampler])
    usual = [round(rate * ms / 1000) for ms in (5, 8, 10, 11.6, 12, 12.5, 16, 20)]
    usual += [128, 256, 320, 512]
    frames = max(len(theirs) * p.stride, 1)
    low, high = (count - p.n_fft) / (frames + 2), (count + p.n_fft) / max(frames - 2, 1)
    near = range(max(math.ceil(low), 1), min(int(high), math.ceil(low) + 12) + 1)
    return [hop for hop in [*usual, *near] if max(0.5 * low, 1) <= hop <= 2 * high]


def _gain(p: FrontEnd, theirs: np.ndarray, material: Material) -> Iterator[float]:
    """The scale at which features are as loud as theirs."""
    base = _BASES.get(p.log)
    if base is None or p.normalise != "none" or p.statistics != "none":
        return
    try:
        ours = material.features(p)
    except ImpossibleError:
        return
    count = min(len(ours), len(theirs))
    if ours.shape[1] == theirs.shape[1] and count:
        louder = float(np.median(theirs[:count] - ours[:count])) * math.log(base) / p.power
        if 1e-3 < abs(louder) < 30:
            yield float(f"{p.scale * math.exp(louder):.4g}")


def _least(p: FrontEnd, theirs: np.ndarray) -> Iterator[float]:
    """The floor, where theirs have a least value that stands in them again and again."""
    least = float(theirs.min())
    if p.normalise != "none" or p.statistics != "none" or (theirs == least).sum() < _AGAIN:
        return
    base = _BASES.get(p.log)
    if base is not None and abs(least * math.log(base)) < 50:
        yield float(f"{base**least:.6g}")


def _padding(p: FrontEnd, theirs: np.ndarray, material: Material, kind: Any) -> int:
    """How many frames of silence behind the utterance give theirs the mean that they have."""
    plain = replace(p, normalise="none", padded_frames=0, statistics="none", stack=1, stride=1)
    try:
        ours = material.features(plain)
    except ImpossibleError:
        return 0
    width = ours.shape[1]
    frames = theirs[:, :width] if p.stack > 1 else theirs
    if frames.shape[1] != width:
        return 0
    deviation = ours.std(axis=0) / np.maximum(frames.std(axis=0), 1e-9) if "std" in kind else 1.0
    # Their mean, m - (T m + P s) / (T + P), is P / (T + P) of what sound has above silence s.
    above = float(np.mean(ours.mean(axis=0) - silent(plain)))
    share = float(np.mean(frames.mean(axis=0) * deviation)) / above if above else 0.0
    return round(len(ours) * share / (1 - share)) if 0.005 < share < 0.8 else 0
