"""Models whose trained weights come inside their packages: torchcrepe's tiny CREPE, Resemblyzer.

Both are given a recording as it is: what stands in front of the network in their packages (windows
and their normalisation; a mel spectrogram by librosa) is written here in PyTorch, so that the file
takes a waveform. The networks and the code that reads the weights are the packages' own.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from torch import Tensor, nn

RATE = 16000
"""Samples a second of both models."""


class Crepe(nn.Module):
    """Pitch: torchcrepe's tiny network on every window of a recording."""

    WINDOW = 1024
    HOP = 1280

    def __init__(self) -> None:
        super().__init__()
        import torchcrepe

        torchcrepe.load.model("cpu", "tiny")
        self.net = torchcrepe.infer.model

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Samples ``[N]`` to the salience ``[frames, 360]`` and the best of 360 bins of pitch."""
        padded = nn.functional.pad(waveform[None], (self.WINDOW // 2, self.WINDOW // 2))[0]
        frames = padded.unfold(0, self.WINDOW, self.HOP)
        frames = frames - frames.mean(1, keepdim=True)
        # As torchcrepe does, a silent window is not divided by nothing.
        frames = frames / frames.std(1, keepdim=True).clamp(min=1e-10)
        salience = self.net(frames)
        return {"salience": salience, "bin": salience.argmax(1)}


class Speaker(nn.Module):
    """Who speaks: Resemblyzer's encoder on the mel spectrogram of a recording.

    Args:
        spectrum: "products" with sines and cosines, or "stft", which ONNX has an operator for.
    """

    WINDOW = 400
    HOP = 160
    MELS = 40

    mels: Tensor
    window: Tensor
    waves: Tensor

    def __init__(self, spectrum: str = "products") -> None:
        super().__init__()
        import librosa

        # Only its trimming of silences takes webrtcvad, which has to be compiled.
        sys.modules.setdefault("webrtcvad", ModuleType("webrtcvad"))
        from resemblyzer.voice_encoder import VoiceEncoder

        self.net = VoiceEncoder("cpu", verbose=False)
        self.spectrum = spectrum
        mels = librosa.filters.mel(sr=RATE, n_fft=self.WINDOW, n_mels=self.MELS)
        self.register_buffer("mels", torch.from_numpy(mels))
        self.register_buffer("window", torch.hann_window(self.WINDOW))
        steps = torch.arange(self.WINDOW, dtype=torch.float64)
        turns = 2 * torch.pi * steps[: self.WINDOW // 2 + 1, None] * steps / self.WINDOW
        waves = torch.cat([turns.cos(), -turns.sin()])
        self.register_buffer("waves", waves.float())

    def forward(self, waveform: Tensor) -> Tensor:
        """Samples ``[N]`` to an embedding ``[256]``."""
        return self.net((self.mels @ self.power(waveform)).T[None])[0]

    def power(self, waveform: Tensor) -> Tensor:
        """Power ``[201, frames]`` of a window every 10 ms."""
        if self.spectrum == "stft":
            found = torch.stft(
                waveform, self.WINDOW, self.HOP, window=self.window, pad_mode="constant",
                return_complex=True,
            )  # fmt: skip
            return torch.view_as_real(found).square().sum(-1)
        padded = nn.functional.pad(waveform[None], (self.WINDOW // 2, self.WINDOW // 2))[0]
        parts = self.waves @ (padded.unfold(0, self.WINDOW, self.HOP) * self.window).T
        return parts.reshape(2, -1, parts.shape[1]).square().sum(0)
