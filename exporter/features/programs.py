"""Features as other programs make them, with the choices of a front end as far as they have them.

Nothing here is imported before it is asked for by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from exporter.core.errors import MissingPackageError, UserInputError
from exporter.core.extras import install
from exporter.features.front_end import FrontEnd, window

_INSTALL = {
    "kaldi_native_fbank": install("kaldi_native_fbank"),
    "librosa": install("librosa"),
    "torchaudio": "scripts/install-upstream speechbrain",
    "torch": "install PyTorch",
}


def features_of(
    program: str, waveform: np.ndarray, p: FrontEnd, *, low_frame_rate: int = 1
) -> tuple[np.ndarray, str]:
    """Features ``[T, D]`` of ``waveform`` ``[N]`` in [-1, 1], and what was called with what.

    Args:
        program: one of ``PROGRAMS``.
        p: the pipeline's front end; what the program does not have stays as the program does it.
        low_frame_rate: frames that the pipeline stacks: more than one is a model of FunASR.

    Raises:
        MissingPackageError: it is not installed.
        UserInputError: it refuses.
    """
    try:
        samples = waveform.astype(np.float32)
        if program == "sherpa-onnx":
            return _sherpa_onnx(samples, p, funasr=low_frame_rate > 1)
        return PROGRAMS[program](samples, p)
    except (UserInputError, MissingPackageError):
        raise
    except Exception as error:
        raise UserInputError(
            f"{program} refuses this front end: {str(error)[:200]}",
            where="--with",
            remedy="give its features with --from",
        ) from error


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"{name} is not installed here", where="--with", remedy=_INSTALL[name]
        ) from error


def _kaldi_native_fbank(waveform: np.ndarray, p: FrontEnd) -> tuple[np.ndarray, str]:
    knf = _module("kaldi_native_fbank")
    options = knf.FbankOptions()
    frames, mels = options.frame_opts, options.mel_opts
    frames.samp_freq, frames.dither = float(p.sample_rate_hz), p.dither
    frames.frame_length_ms = 1000 * p.frame / p.sample_rate_hz
    frames.frame_shift_ms = 1000 * p.shift / p.sample_rate_hz
    frames.snip_edges, frames.remove_dc_offset = p.framing == "snip", p.remove_dc
    frames.preemph_coeff, frames.window_type = p.preemphasis, p.window.removesuffix("_periodic")
    mels.num_bins, mels.low_freq, mels.high_freq = p.num_mels, p.low_hz, p.high_hz
    options.use_energy, options.raw_energy = p.energy != "none", p.raw_energy
    options.use_power, options.use_log_fbank = p.power == 2, p.log != "none"
    said = "kaldi-native-fbank with the pipeline's options"
    return _online(knf, options, waveform * np.float32(p.scale), p), said


def _sherpa_onnx(
    waveform: np.ndarray, p: FrontEnd, *, funasr: bool = False
) -> tuple[np.ndarray, str]:
    """What sherpa-onnx sets in the library that it takes features from.

    Its Python package hands no features out. Its defaults: 80 mels, 20 Hz to 400 Hz below the
    Nyquist frequency, ends mirrored, no dither, Kaldi's window, samples in [-1, 1]. Models of
    FunASR (Paraformer, SenseVoice) get whole frames alone, a Hamming window, the whole band, and
    samples in the range of int16.
    """
    knf = _module("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = float(p.sample_rate_hz), 0.0
    options.frame_opts.snip_edges = funasr
    options.frame_opts.window_type = "hamming" if funasr else "povey"
    options.mel_opts.num_bins = p.num_mels
    options.mel_opts.high_freq = 0.0 if funasr else -400.0
    scale = np.float32(32768.0 if funasr else 1.0)
    said = "kaldi-native-fbank with the options that sherpa-onnx sets"
    said += " for models of FunASR" if funasr else ""
    return _online(knf, options, waveform * scale, p), said


def _online(knf: Any, options: Any, samples: np.ndarray, p: FrontEnd) -> np.ndarray:
    made = knf.OnlineFbank(options)
    made.accept_waveform(p.sample_rate_hz, samples.tolist())
    made.input_finished()
    frames = [made.get_frame(number) for number in range(made.num_frames_ready)]
    return np.stack(frames) if frames else np.zeros((0, options.mel_opts.num_bins), np.float32)


def _librosa(waveform: np.ndarray, p: FrontEnd) -> tuple[np.ndarray, str]:
    librosa = _module("librosa")
    samples = waveform * np.float32(p.scale)
    if p.preemphasis:
        samples = librosa.effects.preemphasis(samples, coef=p.preemphasis)
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=p.sample_rate_hz,
        n_fft=p.n_fft,
        win_length=p.frame,
        hop_length=p.shift,
        window=window(p.window, p.frame),
        center=p.framing != "snip",
        pad_mode="reflect" if p.framing == "centre_reflect" else "constant",
        power=float(p.power),
        n_mels=p.num_mels,
        fmin=p.low_hz,
        fmax=p.high_hz,
        htk=p.mel != "slaney",
        norm="slaney" if p.mel_area else None,
    )
    said = "librosa.feature.melspectrogram with what it has of the pipeline's options"
    return _logs(mel.T, p), said


def _torchaudio(waveform: np.ndarray, p: FrontEnd) -> tuple[np.ndarray, str]:
    torchaudio, torch = _module("torchaudio"), _module("torch")
    samples = torch.from_numpy(waveform * np.float32(p.scale))
    if p.mel == "kaldi":
        kaldi = importlib.import_module("torchaudio.compliance.kaldi")
        features = kaldi.fbank(
            samples[None],
            sample_frequency=float(p.sample_rate_hz),
            frame_length=1000 * p.frame / p.sample_rate_hz,
            frame_shift=1000 * p.shift / p.sample_rate_hz,
            dither=p.dither,
            snip_edges=p.framing == "snip",
            remove_dc_offset=p.remove_dc,
            preemphasis_coefficient=p.preemphasis,
            window_type=p.window.removesuffix("_periodic"),
            num_mel_bins=p.num_mels,
            low_freq=p.low_hz,
            high_freq=p.high_hz,
            use_energy=p.energy != "none",
            raw_energy=p.raw_energy,
            use_power=p.power == 2,
            use_log_fbank=p.log != "none",
        )
        return features.numpy(), "torchaudio.compliance.kaldi.fbank with the pipeline's options"
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=p.sample_rate_hz,
        n_fft=p.n_fft,
        win_length=p.frame,
        hop_length=p.shift,
        f_min=p.low_hz,
        f_max=p.high_hz,
        n_mels=p.num_mels,
        power=float(p.power),
        center=p.framing != "snip",
        pad_mode="constant" if p.framing == "centre_zero" else "reflect",
        window_fn=lambda size: torch.from_numpy(window(p.window, size)).float(),
        mel_scale="slaney" if p.mel == "slaney" else "htk",
        norm="slaney" if p.mel_area else None,
    )
    said = "torchaudio.transforms.MelSpectrogram with what it has of the pipeline's options"
    return _logs(transform(samples).numpy().T, p), said


def _logs(energies: np.ndarray, p: FrontEnd) -> np.ndarray:
    """The logarithm that the front end takes, of another program's energies."""
    if p.log == "none":
        return energies
    floored = energies + p.floor if p.floor_added else np.maximum(energies, p.floor)
    logs = np.log(floored)
    return logs if p.log == "ln" else logs / np.log(10) * (10 if p.log.startswith("db") else 1)


PROGRAMS: dict[str, Callable[[np.ndarray, FrontEnd], tuple[np.ndarray, str]]] = {
    "kaldi-native-fbank": _kaldi_native_fbank,
    "sherpa-onnx": _sherpa_onnx,
    "librosa": _librosa,
    "torchaudio": _torchaudio,
}
"""Name on the command line -> how it is called."""
