"""A resampler inside of the graph is judged like any other layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.flows.run import run

CODE = """\
import math

import torch
from torch import nn


class Resample(nn.Module):
    def __init__(self, down, up, zeros=6):
        super().__init__()
        base = min(down, up) * 0.99
        self.down, self.up, self.width = down, up, math.ceil(zeros * down / base)
        index = torch.arange(-self.width, self.width + down, dtype=torch.float64) / down
        at = (index[None] - torch.arange(up, dtype=torch.float64)[:, None] / up) * base
        at = at.clamp(-zeros, zeros)
        kernel = torch.sinc(at) * torch.cos(at * math.pi / zeros / 2) ** 2 * base / down
        self.register_buffer("kernel", kernel.float()[:, None])

    def forward(self, x):
        padded = nn.functional.pad(x[:, None], (self.width, self.width + self.down))
        made = nn.functional.conv1d(padded, self.kernel, stride=self.down)
        made = made.transpose(1, 2).reshape(x.shape[0], -1)
        return made[:, : (self.up * x.shape[-1] + self.down - 1) // self.down]


class Net(nn.Module):
    def __init__(self, down, up):
        super().__init__()
        self.resample = Resample(down, up)
        self.conv = nn.Conv1d(1, 8, 400, stride=160)

    def forward(self, x):
        return torch.log(self.conv(self.resample(x)[:, None]) ** 2 + 1e-3)


def build(rate=48000):
    torch.manual_seed(0)
    common = math.gcd(rate, 16000)
    return Net(rate // common, 16000 // common)
"""
YAML = """\
name: resampling
model: {{factory: "resampling:build", settings: {{rate: {rate}}}}}
sample_rate_hz: {rate}
inputs: {{waveform: {{dtype: float32, shape: [batch, num_samples]}}}}
axes: {{num_samples: {{minimum: 4000, example: 9000}}}}
outputs: [y]
cases:
  - name: c
    random: {{waveform: {{kind: normal, scale: 0.1, sizes: {{batch: 2, num_samples: 12000}}}}}}
default_case: c
"""


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_a_resampler_in_the_graph_passes(tmp_path: Path, rate: int):
    (tmp_path / "resampling.py").write_text(CODE)
    (tmp_path / "p.yaml").write_text(YAML.format(rate=rate))
    report = run(tmp_path / "p.yaml", trust=True, output_dir=tmp_path / "out", cache=False)
    assert report.exit_code == 0, report.headline
