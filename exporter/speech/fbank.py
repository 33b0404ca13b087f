"""Kaldi's log mel filter bank as one convolution and one matrix product.

Everything in Kaldi's ``FbankComputer`` up to the complex spectrum is linear in the samples of
a frame: scale, remove the mean, pre-emphasise, window, pad to a power of two, transform. So all
of it is folded into one kernel, computed in float64:

    kernel = DFT . diag(window) . (I - 0.97 shift) . (I - mean) . scale        [2 * bins, 400]

What stays is a strided convolution, the squared magnitude, the mel matrix and a logarithm.
Frames are taken with ``snip_edges``: only where a whole frame fits. Source: Kaldi,
``feat/feature-window.cc`` and ``feat/mel-computations.cc``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from exporter.core.errors import ConfigError
from exporter.speech.sizes import at_least, data_dependent

FLOAT32_EPSILON = float(np.finfo(np.float32).eps)


class KaldiFbank(nn.Module):
    """Log mel energies of every row of a batch.

    Args:
        num_mels: number of mel bins.
        sample_rate_hz: of the waveform.
        frame_length_ms: length of a frame.
        frame_shift_ms: distance of frames.
        window: ``hamming``, ``hanning``, ``povey``, ``blackman`` or ``rectangular``.
        preemphasis: coefficient; the first sample of a frame is its own predecessor.
        low_freq_hz: lower edge of the first bin.
        high_freq_hz: upper edge of the last bin; zero or less counts from the Nyquist frequency.
        scale: factor on the waveform; 32768 turns [-1, 1] into the range of int16.

    Raises:
        ConfigError: an unknown window, or frequencies that leave no bin.
    """

    def __init__(
        self,
        num_mels: int = 80,
        sample_rate_hz: int = 16000,
        frame_length_ms: float = 25,
        frame_shift_ms: float = 10,
        window: str = "hamming",
        preemphasis: float = 0.97,
        low_freq_hz: float = 20,
        high_freq_hz: float = 0,
        scale: float = 32768,
    ) -> None:
        super().__init__()
        self.num_mels = num_mels
        self.sample_rate_hz = sample_rate_hz
        self.window = window
        self.frame_samples = int(sample_rate_hz * frame_length_ms / 1000)
        self.shift_samples = int(sample_rate_hz * frame_shift_ms / 1000)
        if self.frame_samples < 2 or self.shift_samples < 1:
            raise ConfigError(
                f"a frame of {self.frame_samples} samples every {self.shift_samples} is impossible",
                where="frame_length_ms, frame_shift_ms",
                remedy="use a frame of at least two samples and a shift of at least one",
            )
        fft_size = 1 << (self.frame_samples - 1).bit_length()
        mel = mel_matrix(num_mels, fft_size, sample_rate_hz, low_freq_hz, high_freq_hz)
        used = np.flatnonzero(mel.any(axis=0))  # bins outside of every triangle cost nothing
        kernel = frame_kernel(self.frame_samples, fft_size, used, window, preemphasis) * scale
        self.register_buffer("kernel", torch.from_numpy(kernel).float().unsqueeze(1))
        self.register_buffer("mel", torch.from_numpy(mel[:, used].T.copy()).float())

    def forward(self, pieces: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of every row and how many of them are real.

        Args:
            pieces: ``[R, L]`` float; less than one frame is filled up with zeros.
            lengths: ``[R]`` int64, samples in use; shorter than a frame counts zero frames.

        Returns:
            frames ``[R, T, num_mels]`` float, T = 1 + (max(L, frame) - frame) // shift, those
            at and after a row's count are of padding; frame_counts ``[R]`` int64.
        """
        kernel, mel = self.get_buffer("kernel"), self.get_buffer("mel")
        available, shift = pieces.shape[1], self.shift_samples
        behind_first = at_least(available - self.frame_samples, 0) // shift
        time = data_dependent(1 + behind_first, like=pieces, minimum=1)
        # The longest width that still holds `time` frames: never below what is there.
        width = (time - 1) * shift + self.frame_samples + shift - 1
        padded = nn.functional.pad(pieces, (0, width - available)).unsqueeze(1)
        spectrum = nn.functional.conv1d(padded, kernel, stride=shift)
        real, imaginary = spectrum[:, : mel.shape[0]], spectrum[:, mel.shape[0] :]
        power = (real * real + imaginary * imaginary).transpose(1, 2)
        energies = torch.matmul(power, mel)
        whole = (lengths - self.frame_samples) // self.shift_samples + 1
        return energies.clamp(min=FLOAT32_EPSILON).log(), whole.clamp(min=0)


def frame_kernel(
    frame_samples: int, fft_size: int, bins: np.ndarray, window: str, preemphasis: float
) -> np.ndarray:
    """Return the linear map from a frame to the DFT bins asked for.

    Args:
        frame_samples: samples of a frame.
        fft_size: size of the transform; the frame is padded with zeros at its end.
        bins: which bins, ``[B]`` integers.
        window: name of the window.
        preemphasis: coefficient.

    Returns:
        ``[2 * B, frame_samples]`` float64, all real parts before all imaginary parts.
    """
    size = frame_samples
    centred = np.eye(size) - np.full((size, size), 1.0 / size)
    emphasised = np.eye(size) - preemphasis * np.eye(size, k=-1)
    emphasised[0, 0] -= preemphasis
    angle = -2.0 * np.pi * np.outer(bins, np.arange(size)) / fft_size
    transform = np.concatenate([np.cos(angle), np.sin(angle)])
    return (transform * window_values(window, size)) @ emphasised @ centred


def window_values(name: str, size: int) -> np.ndarray:
    """Return Kaldi's symmetric window ``[size]`` as float64.

    Raises:
        ConfigError: an unknown name.
    """
    turn = 2.0 * np.pi * np.arange(size) / (size - 1)
    hanning = 0.5 - 0.5 * np.cos(turn)
    windows = {
        "hamming": 0.54 - 0.46 * np.cos(turn),
        "hanning": hanning,
        "povey": hanning**0.85,
        "blackman": 0.42 - 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn),
        "rectangular": np.ones(size),
    }
    if name not in windows:
        raise ConfigError(
            f"unknown window '{name}'", where="window", remedy="use one of: " + ", ".join(windows)
        )
    return windows[name]


def mel_matrix(
    num_mels: int, fft_size: int, sample_rate_hz: int, low_freq_hz: float, high_freq_hz: float
) -> np.ndarray:
    """Return Kaldi's triangular filters, equally spaced on ``1127 ln(1 + f / 700)``.

    Args:
        num_mels: number of triangles.
        fft_size: size of the transform.
        sample_rate_hz: sample rate.
        low_freq_hz: lower edge of the first triangle.
        high_freq_hz: upper edge of the last; zero or less counts from the Nyquist frequency.

    Returns:
        ``[num_mels, fft_size / 2]`` float64; as in Kaldi the Nyquist bin takes no part.

    Raises:
        ConfigError: the frequencies are out of order or a triangle holds no bin.
    """
    nyquist = sample_rate_hz / 2
    top = high_freq_hz if high_freq_hz > 0 else nyquist + high_freq_hz
    if not 0 <= low_freq_hz < top <= nyquist:
        raise ConfigError(
            f"the band {low_freq_hz}..{top} Hz does not lie within 0..{nyquist} Hz",
            where="low_freq_hz, high_freq_hz",
            remedy="use 0 <= low < high <= half the sample rate",
        )
    edges = np.linspace(_mel(low_freq_hz), _mel(top), num_mels + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    at = _mel(np.arange(fft_size // 2) * sample_rate_hz / fft_size)[None, :]
    rising, falling = (at - left) / (centre - left), (right - at) / (right - centre)
    weights = np.clip(np.minimum(rising, falling), 0.0, None)
    if not weights.any(axis=1).all():
        raise ConfigError(
            f"{num_mels} mel bins are too many: some hold no frequency",
            where="num_mels",
            remedy="use fewer mel bins or a longer frame",
        )
    return weights


def _mel(frequency_hz: float | np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(frequency_hz, dtype=np.float64) / 700.0)
