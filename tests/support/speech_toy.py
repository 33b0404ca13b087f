"""A user's own speech model with its front end inside, as a pipeline that runs in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from exporter.features.front_end import FrontEnd

CODE = """\
import torch
from torch import nn


class Mel(nn.Module):
    def __init__(self):
        super().__init__()
        filters = torch.from_file("filters.bin", size=40 * 257).reshape(257, 40).clone()
        self.register_buffer("filters", filters)
        self.register_buffer("window", torch.hann_window(400))

    def forward(self, waveform):
        spectrum = torch.stft(waveform, 512, 160, 400, self.window, return_complex=True)
        power = spectrum.real**2 + spectrum.imag**2
        return torch.log(power.transpose(1, 2) @ self.filters + 1e-6)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = Mel()
        self.conv = nn.Conv1d(40, 24, 3, padding=1)
        self.out = nn.Linear(24, 12)

    def encode(self, features):
        hidden = torch.tanh(0.2 * self.conv(features.transpose(1, 2))).transpose(1, 2)
        logits = self.out(hidden)
        return logits, logits.argmax(-1)

    def forward(self, waveform):
        return self.encode(self.front(waveform))


def build():
    torch.manual_seed(0)
    return Net()
"""
YAML = """\
name: toy
model: {{factory: "speech_toy:build"{method}}}
sample_rate_hz: 16000
inputs: {{{inputs}}}
axes: {{{axes}}}
outputs: [logits, tokens]
cases: [{{name: speech, {case}}}]
default_case: speech
"""
FRONT_END = FrontEnd(
    scale=1.0, remove_dc=False, preemphasis=0.0, framing="centre_reflect", low_hz=0.0,
    window="hanning_periodic", mel="htk", floor=1e-6, floor_added=True, num_mels=40,
)  # fmt: skip
"""What the model's ``front`` computes."""


def write_toy(folder: Path, waveform: np.ndarray, *, rate: int = 16000, resample: str = "") -> Path:
    """The pipeline whose model takes a recording."""
    _write_code(folder)
    soundfile.write(folder / "speech.wav", waveform, rate, subtype="FLOAT")
    return _write_yaml(
        folder,
        method="",
        inputs="waveform: {dtype: float32, shape: [batch, num_samples]}",
        axes="num_samples: {minimum: 1000, example: 8000}",
        case=f"audio: {{file: speech.wav, input: waveform{resample}}}",
    )


def write_headless(folder: Path, features: np.ndarray) -> Path:
    """The pipeline whose model takes features, out of a file."""
    _write_code(folder)
    np.save(folder / "ours.npy", features.astype(np.float32))
    return _write_yaml(
        folder,
        method=", method: encode",
        inputs="features: {dtype: float32, shape: [batch, frames, 40]}",
        axes="frames: {minimum: 3, example: 50}",
        case="inputs: {features: {file: ours.npy}}",
    )


def _write_code(folder: Path) -> None:
    from exporter.features.filters import mel_filters

    filters = mel_filters("htk", False, 40, 512, 16000, 0.0, 8000.0)
    (folder / "filters.bin").write_bytes(filters.astype(np.float32).tobytes())
    code = CODE.replace("filters.bin", str(folder / "filters.bin"))
    (folder / "speech_toy.py").write_text(code)


def _write_yaml(folder: Path, **parts: str) -> Path:
    path = folder / "toy.yaml"
    path.write_text(YAML.format(**parts))
    return path
