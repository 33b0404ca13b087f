"""A small network with one layer that eight bits are too coarse for, and tokens at its end."""

from __future__ import annotations

from pathlib import Path

from tests.support import toy_project

LOUD = "model.loud"
MODULE = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, size=32):
        super().__init__()
        self.front = nn.Linear(16, size)
        self.first = nn.Linear(size, size)
        self.loud = nn.Linear(size, size)
        self.second = nn.Linear(size, size)
        self.conv = nn.Conv1d(size, size, 3, padding=1)
        self.head = nn.Linear(size, 24)
        with torch.no_grad():
            # One channel is so loud that a step of eight bits swallows all others.
            self.loud.weight[:, 0] /= 1000.0
            # The margins of a trained network: most frames are clear.
            self.head.weight *= 4.0
        scale = torch.ones(size)
        scale[0] = 1000.0
        self.register_buffer("scale", scale)

    def forward(self, x):
        y = torch.tanh(self.front(x))
        y = y + torch.relu(self.first(y))
        y = torch.tanh(self.loud(y * self.scale))
        y = y + torch.relu(self.second(y))
        y = y + torch.relu(self.conv(y.transpose(1, 2))).transpose(1, 2)
        logits = self.head(y)
        return {"logits": logits, "tokens": logits.argmax(dim=-1)}


def build():
    torch.manual_seed(3)
    return Net().eval()
"""
YAML = """\
name: lowering
model: {factory: "toy_model:build"}
axes: {frames: {minimum: 1, example: 17}}
inputs:
  x: {dtype: float32, shape: [batch, frames, 16]}
outputs: [logits, tokens]
cases:
  - name: first
    random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 20}}}
  - name: second
    random: {x: {kind: normal, seed: 2, sizes: {batch: 1, frames: 30}}}
  - name: third
    random: {x: {kind: normal, seed: 3, sizes: {batch: 3, frames: 9}}}
default_case: first
"""


def project(folder: Path, more: str = "") -> Path:
    """Write the module and its pipeline; returns the YAML."""
    return toy_project.project(folder, module=MODULE, yaml=YAML + more)
