"""A small pipeline with lengths and a contract, and runs of it with a cache of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporter.config import load_pipeline
from exporter.flows.run import run
from exporter.report.schema import Report
from tests.support.stages import Silent

MODULE = """\
import torch
from torch import nn

import toy_parts


class Net(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.conv = nn.Conv1d(1, width, 3, padding=1)
        self.head = nn.Conv1d(width, 1, 1)
        self.eps = eps

    def forward(self, x):
        y = self.head(torch.relu(self.conv(x.unsqueeze(1)))).squeeze(1)
        return {"y": toy_parts.scaled(y, self.eps)}


def build(width=8, eps=1e-3):
    torch.manual_seed(0)
    return Net(width, eps)
"""
PARTS = """\
def scaled(y, eps):
    return y / (y.abs().mean(dim=-1, keepdim=True) + eps)
"""
YAML = """\
name: toy
model: {factory: "toy_net:build", settings: {width: 8}}
axes: {frames: {minimum: 1, example: 17}}
inputs: {x: {dtype: float32, shape: [batch, frames]}}
outputs: [y]
lengths: {x: [3, 50]}
cases:
  - {name: noise, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 40}}}}
default_case: noise
contracts: {mutation: }
"""


def write(folder: Path, *, module: str = MODULE, parts: str = PARTS, yaml: str = YAML) -> Path:
    """Write the pipeline; returns its YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy_net.py").write_text(module, encoding="utf-8")
    (folder / "toy_parts.py").write_text(parts, encoding="utf-8")
    path = folder / "toy.yaml"
    path.write_text(yaml, encoding="utf-8")
    return path


def run_cached(path: Path, out: Path, **options: Any) -> Report:
    """Run it in this process, one thread."""
    return run(
        load_pipeline(path, trust=True),
        output_dir=out,
        progress=Silent(),
        threads=1,
        trust=True,
        **options,
    )
