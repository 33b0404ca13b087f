"""Log mel spectrogram of SpeechBrain's MelSpectrogramEncoder, as one convolution and one product.

    waveform -> reflect by n_fft / 2 -> frames . hann -> |DFT| -> slaney mel -> log(max(., 1e-5))

Window and DFT are one kernel, computed in float64; the reflection is that of each row's own end,
so a recording gives the same frames alone and in a padded batch. Source of the recipe:
``speechbrain.inference.encoders.MelSpectrogramEncoder.mel_spectrogram``, which calls
``torchaudio.transforms.MelSpectrogram`` (centred frames, power 1, norm and scale "slaney"); of the
scale: M. Slaney, Auditory Toolbox, Technical Report 1998-010.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from exporter.core.errors import ConfigError
from exporter.speech.reflect import reflected_index

_LINEAR_HZ, _LINEAR_UP_TO_HZ = 200.0 / 3, 1000.0
_LOG_STEP = np.log(6.4) / 27.0


class MelSpectrogram(nn.Module):
    """Log mel magnitudes of every row of a batch.

    Args:
        sample_rate_hz: of the waveform.
        n_fft: size of a frame and of its transform.
        win_length: size of the periodic Hann window, centred in the frame.
        hop_length: distance of frames.
        n_mels: number of mel bins.
        f_min_hz, f_max_hz: lower edge of the first bin, upper edge of the last.
        floor: smallest magnitude before the logarithm.

    Raises:
        ConfigError: sizes or frequencies that fit no frame.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        n_fft: int = 1024,
        win_length: int = 1024,
        hop_length: int = 256,
        n_mels: int = 80,
        f_min_hz: float = 0.0,
        f_max_hz: float = 8000.0,
        floor: float = 1e-5,
    ) -> None:
        super().__init__()
        if not 1 <= win_length <= n_fft:
            raise ConfigError(
                f"a window of {win_length} samples does not fit a transform of {n_fft}",
                where="win_length",
                remedy="use 1 <= win_length <= n_fft",
            )
        self.margin, self.hop, self.floor = n_fft // 2, hop_length, floor
        mel = slaney_mel_matrix(n_mels, n_fft, sample_rate_hz, f_min_hz, f_max_hz)
        used = np.flatnonzero(mel.any(axis=0))  # bins outside of every triangle cost nothing
        angle = -2.0 * np.pi * np.outer(used, np.arange(n_fft)) / n_fft
        kernel = np.concatenate([np.cos(angle), np.sin(angle)]) * _window(win_length, n_fft)
        self.register_buffer("kernel", torch.from_numpy(kernel).float().unsqueeze(1))
        self.register_buffer("mel", torch.from_numpy(mel[:, used]).float())

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of every row and how many of them are its own.

        Args:
            waveform: ``[B, N]`` float in [-1, 1]; what lies behind a row's length is never read.
            lengths: ``[B]`` int64 in [1, N].

        Returns:
            log mel ``[B, n_mels, T]`` float, T = 1 + N // hop; frames ``[B]`` int64, those behind
            repeat the row's own sound backwards.
        """
        kernel, mel = self.get_buffer("kernel"), self.get_buffer("mel")
        index = reflected_index(lengths, waveform.shape[1], self.margin)
        framed = waveform.gather(1, index).unsqueeze(1)
        spectrum = nn.functional.conv1d(framed, kernel, stride=self.hop)
        real, imaginary = spectrum[:, : mel.shape[1]], spectrum[:, mel.shape[1] :]
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        energies = torch.matmul(mel, magnitude)
        return energies.clamp(min=self.floor).log(), lengths // self.hop + 1


def _window(size: int, n_fft: int) -> np.ndarray:
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)
    left = (n_fft - size) // 2
    return np.pad(hann, (left, n_fft - size - left))


def slaney_mel_matrix(
    n_mels: int, n_fft: int, sample_rate_hz: int, f_min_hz: float, f_max_hz: float
) -> np.ndarray:
    """Return triangular filters of equal area, equally spaced on Slaney's scale.

    Returns:
        ``[n_mels, n_fft // 2 + 1]`` float64.

    Raises:
        ConfigError: the band does not lie within 0 and half the sample rate, or bins hold nothing.
    """
    if not 0 <= f_min_hz < f_max_hz <= sample_rate_hz / 2:
        raise ConfigError(
            f"the band {f_min_hz}..{f_max_hz} Hz does not lie within 0..{sample_rate_hz / 2} Hz",
            where="mel_fmin, mel_fmax",
            remedy="use 0 <= mel_fmin < mel_fmax <= half the sample rate",
        )
    edges = _hz(np.linspace(_mel(f_min_hz), _mel(f_max_hz), n_mels + 2))
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    at = np.linspace(0.0, sample_rate_hz / 2, n_fft // 2 + 1)[None, :]
    rising, falling = (at - left) / (centre - left), (right - at) / (right - centre)
    weights = np.clip(np.minimum(rising, falling), 0.0, None) * (2.0 / (right - left))
    if not weights.any(axis=1).all():
        raise ConfigError(
            f"{n_mels} mel bins are too many: some hold no frequency",
            where="n_mel_channels",
            remedy="use fewer mel bins or a larger n_fft",
        )
    return weights


def _mel(hz: float) -> float:
    """Linear up to 1000 Hz, logarithmic above."""
    if hz < _LINEAR_UP_TO_HZ:
        return hz / _LINEAR_HZ
    return _LINEAR_UP_TO_HZ / _LINEAR_HZ + float(np.log(hz / _LINEAR_UP_TO_HZ)) / _LOG_STEP


def _hz(mel: np.ndarray) -> np.ndarray:
    start = _LINEAR_UP_TO_HZ / _LINEAR_HZ
    return np.where(
        mel < start, mel * _LINEAR_HZ, _LINEAR_UP_TO_HZ * np.exp((mel - start) * _LOG_STEP)
    )
