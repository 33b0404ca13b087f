"""Small modules as captured programs and ONNX files, exported once per process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from exporter.core.tensors import Axis, Case, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.program import Program
from exporter.graph.simplify import simplify
from exporter.judge.layer_results import LayerLink
from exporter.judge.layers import judge_layers
from exporter.parity.tolerance import Policy

WIDTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A module, its captured program and its file."""

    module: nn.Module
    program: Program
    model: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def judge(
        self,
        model: onnx.ModelProto | None = None,
        *,
        cases: tuple[Case, ...],
        budget: int = 1 << 24,
        expected_taps: frozenset[str] = frozenset(),
    ) -> LayerLink:
        """Every layer of the toy's own file, or of another one."""
        return judge_layers(
            self.program,
            index(model or self.model),
            cases,
            policy=Policy(),
            deployment=Deployment(threads=1),
            budget=budget,
            expected_taps=expected_taps,
        )


def index(model: onnx.ModelProto) -> GraphIndex:
    """Look-ups of a model without external data."""
    return index_graph(model, Path())


def floats(name: str, *shape: int | str) -> TensorSpec:
    """A float32 input or output; axes are the names in ``shape``."""
    return spec(name, "float32", *shape)


def spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    """An input or output; integers are discrete."""
    axes = tuple(Axis(name=size) for size in shape if isinstance(size, str))
    discrete = dtype.startswith("int")
    return TensorSpec(name=name, dtype=dtype, shape=shape, axes=axes, discrete=discrete)


def make_toy(
    module: nn.Module,
    example: Mapping[str, Tensor],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    seed: int = 0,
    simplified: bool = False,
) -> Toy:
    """Seed, capture and export; takes a second or two."""
    module.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.normal_(0.0, 0.3, generator=generator)
    dims: dict[str, Any] = {}
    shapes = {}
    for held in inputs:
        for axis in held.axes:
            dims.setdefault(axis.name, torch.export.Dim(axis.name, min=1))
        shapes[held.name] = {
            number: dims[size] for number, size in enumerate(held.shape) if isinstance(size, str)
        }
    exported = export(capture(module, example, shapes), inputs=inputs, outputs=outputs, opset=18)
    model = ir.to_proto(exported.model)
    return Toy(
        module=module,
        program=exported.program,
        model=simplify(model).model if simplified else model,
        inputs=inputs,
        outputs=outputs,
    )


class Attention(nn.Module):
    """One head on ``[B, T, WIDTH]``."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / WIDTH**0.5
        return torch.softmax(scores, dim=-1) @ self.value(x)


class Gate(nn.Module):
    """Keeps the frames whose score is not negative."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x).squeeze(-1) >= 0


class Mixed(nn.Module):
    """A little of everything: norm, depthwise convolution, LSTM, attention, decisions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.attention = Attention()
        self.first, self.second = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.gate = Gate()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.norm(x)
        x = x + self.conv(x.transpose(1, 2)).transpose(1, 2)
        hidden, _ = self.lstm(x)
        x = x + self.attention(hidden)
        x = x + self.second(torch.relu(self.first(x)))
        keep = self.gate(x)
        return torch.where(keep.unsqueeze(-1), x, 0.5 * x), keep.sum(1), x.argmax(-1)


@cache
def mixed(*, simplified: bool = False) -> Toy:
    """:class:`Mixed` on ``x`` [batch, frames, WIDTH] to ``y``, ``kept`` [batch] and ``best``."""
    return make_toy(
        Mixed(),
        {"x": torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(1))},
        (floats("x", "batch", "frames", WIDTH),),
        (
            floats("y", "batch", "frames", WIDTH),
            spec("kept", "int64", "batch"),
            spec("best", "int64", "batch", "frames"),
        ),
        simplified=simplified,
    )


def mixed_case(seed: int = 0, *, batch: int = 2, frames: int = 11) -> Case:
    """Random input of :func:`mixed`."""
    x = np.random.default_rng(seed).standard_normal((batch, frames, WIDTH)).astype(np.float32)
    return Case(name=f"seed_{seed}", inputs={"x": x}, origin=f"normal, seed {seed}")
