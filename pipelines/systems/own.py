"""Small models of our own for systems: a recogniser with CTC, and speech from text by a flow."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Recogniser(nn.Module):
    """Sound to scores of letters: energies of 32 bands every 10 ms, two convolutions, a GRU."""

    def __init__(self, letters: int = 28, width: int = 48, hop: int = 160):
        super().__init__()
        self.bands = nn.Conv1d(1, 32, 400, stride=hop, bias=False)
        time = torch.arange(400.0)
        centre = torch.linspace(0.02, 0.9, 32)[:, None] * math.pi
        with torch.no_grad():
            self.bands.weight.copy_((torch.hann_window(400) * torch.cos(centre * time))[:, None])
        self.mixed = nn.Sequential(
            nn.Conv1d(32, width, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.GELU(),
        )
        self.memory = nn.GRU(width, width, batch_first=True)
        self.letters = nn.Linear(width, letters)
        with torch.no_grad():
            self.letters.weight *= 12.0  # random weights would say the same letter at every frame

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Waveform ``[B, N]`` at 16 kHz to scores ``[B, T, letters]``, T a frame every 40 ms."""
        energies = torch.log(self.bands(waveform[:, None]) ** 2 + 1e-4)
        heard, _ = self.memory(self.mixed(energies).transpose(1, 2))
        return {"scores": self.letters(heard)}


class TextEncoder(nn.Module):
    """Letters to what the flow is led by."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.letters = nn.Embedding(28, width)
        self.mixed = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, text: Tensor) -> Tensor:
        """Letters ``[B, T]`` to ``[B, width, T]``."""
        return torch.tanh(self.mixed(self.letters(text).transpose(1, 2)))


class Velocity(nn.Module):
    """Where a spectrogram has to move at a time between noise (0) and speech (1)."""

    def __init__(self, width: int = 24, mels: int = 16):
        super().__init__()
        self.inward = nn.Conv1d(mels + width + 2, 48, 3, padding=1)
        self.between = nn.Conv1d(48, 48, 3, padding=1)
        self.outward = nn.Conv1d(48, mels, 1)

    def forward(self, mel: Tensor, time: Tensor, led_by: Tensor) -> Tensor:
        """Spectrogram ``[B, mels, T]``, time ``[B]``, what leads it ``[B, width, T]``."""
        angle = time[:, None, None] * (math.pi / 2)
        waves = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)
        waves = waves.expand(-1, -1, mel.shape[2])
        hidden = torch.tanh(self.inward(torch.cat([mel, led_by, waves], dim=1)))
        return self.outward(hidden + torch.tanh(self.between(hidden)))


class Vocoder(nn.Module):
    """A spectrogram to sound: 64 samples a frame."""

    def __init__(self, mels: int = 16, hop: int = 64):
        super().__init__()
        self.mixed = nn.Conv1d(mels, 32, 5, padding=2)
        self.sound = nn.ConvTranspose1d(32, 1, 2 * hop, stride=hop, padding=hop // 2)

    def forward(self, mel: Tensor) -> Tensor:
        """Spectrogram ``[B, mels, T]`` to waveform ``[B, 64 T]``."""
        return torch.tanh(self.sound(torch.tanh(self.mixed(mel))))[:, 0]
