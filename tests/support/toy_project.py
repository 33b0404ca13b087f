"""A pipeline of a user's own small model, which runs in seconds, for tests of whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

MODULE = """\
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 32)
        self.outer = nn.Linear(32, 16)

    def forward(self, x):
        return x + self.outer(torch.relu(self.inner(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(16, 16, 3, padding=1)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            y = block(y)
        return {"y": y}


def build():
    torch.manual_seed(0)
    return Net()
"""
DECIDES = MODULE.replace(
    "        return x + ", "        if x.sum() > 0:\n            x = x + 1\n        return x + "
)
"""The same model with a decision on values, which torch.export refuses."""
YAML = """\
name: toy
model: {factory: "toy_model:build"}
axes: {frames: {minimum: 1, example: 17}}
inputs: {x: {dtype: float32, shape: [batch, frames, 16]}}
outputs: [y]
cases:
  - {name: noise, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 40}}}}
default_case: noise
"""
CAUSAL = YAML + "contracts: {causality: {lookahead_samples: {y: 0}}}\n"
"""A promise that the convolution does not keep."""


def project(folder: Path, *, module: str = MODULE, yaml: str = YAML) -> Path:
    """Write ``toy_model.py`` and ``toy.yaml``; returns the YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy_model.py").write_text(module, encoding="utf-8")
    path = folder / "toy.yaml"
    path.write_text(yaml, encoding="utf-8")
    return path


def weaken(model: onnx.ModelProto, shape: tuple[int, ...], nth: int) -> None:
    """Round the nth weight of a shape to float16, in place."""
    found = [t for t in model.graph.initializer if tuple(t.dims) in (shape, shape[::-1])]
    tensor = sorted(found, key=lambda held: held.name)[nth]
    values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
