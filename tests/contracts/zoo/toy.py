"""What a toy is, and the specs that most of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from exporter.contracts import ContractResult, Target, run_contracts
from exporter.core.tensors import Axis, TensorSpec
from exporter.parity.status import severity
from tests.support.target_from_module import target_from_module

BATCH = Axis(name="batch")
TIME = Axis(name="time", minimum=4)


@dataclass(frozen=True, kw_only=True)
class Toy:
    """One module under one contract.

    Attributes:
        name: a few words, used in tests and in the table.
        broken: True when the contract must fail.
        make: builds the subject.
        settings: the contract's options.
        torch, onnx: expected verdict per side; None: the side is not looked at.
        module: module path that a failing side must name; None: any.
        onnx_module: the same for ONNX; the same module when None.
        says: a piece of text that the reason of a failing side must contain.
    """

    name: str
    broken: bool
    make: Callable[[], Target]
    settings: dict[str, Any] = field(default_factory=dict)
    torch: str | None = None
    onnx: str | None = None
    module: str | None = None
    onnx_module: str | None = None
    says: str = ""

    def run(self, contract: str) -> dict[str, ContractResult]:
        """Results by side; the more serious one where a contract has several rows."""
        worst: dict[str, ContractResult] = {}
        for result in run_contracts(self.make(), {contract: self.settings}):
            held = worst.setdefault(result.side, result)
            if severity(result.status) > severity(held.status):
                worst[result.side] = result
        return worst


def features(width: int = 4, time: Axis = TIME) -> tuple[TensorSpec, ...]:
    """x [batch, width, time]."""
    shape = ("batch", width, time.name)
    return (TensorSpec(name="x", dtype="float32", shape=shape, axes=(BATCH, time)),)


def frames(width: int = 4, time: Axis = TIME) -> tuple[TensorSpec, ...]:
    """x [batch, time, width]."""
    shape = ("batch", time.name, width)
    return (TensorSpec(name="x", dtype="float32", shape=shape, axes=(BATCH, time)),)


def with_lengths(inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The same and x_lengths [batch]."""
    lengths = TensorSpec(name="x_lengths", dtype="int64", shape=("batch",), axes=(BATCH,))
    return (*inputs, lengths)


def output(*shape: int | str, name: str = "y", dtype: str = "float32") -> tuple[TensorSpec, ...]:
    """One output; axes are taken from the names in its shape."""
    axes = tuple(
        BATCH if size == "batch" else Axis(name=size, minimum=1)
        for size in shape
        if isinstance(size, str)
    )
    discrete = dtype.startswith("int")
    return (TensorSpec(name=name, dtype=dtype, shape=shape, axes=axes, discrete=discrete),)


def subject(
    module: nn.Module,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    with_onnx: bool = False,
    seed: bool = True,
    **options: Any,
) -> Target:
    """A subject in eval mode with seeded weights."""
    if seed:
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.is_floating_point():
                    drawn = torch.randn(parameter.shape, generator=generator) * 0.4
                    parameter.copy_(drawn.to(parameter.dtype))
    module.eval().requires_grad_(False)
    return target_from_module(
        module, inputs=inputs, outputs=outputs, with_onnx=with_onnx, **options
    )


class Conv(nn.Module):
    """A convolution with its own padding (left, right): [B, C, T] -> [B, C, T']."""

    def __init__(self, width: int, kernel: int, left: int, right: int, mode: str = "constant"):
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel)
        self.pad = (left, right)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, self.pad, mode=self.mode))


class Stack(nn.Module):
    """Layers one behind the other, with ReLU in between."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(torch.relu(x))
        return x


class Masked(nn.Module):
    """Passes a mask [B, 1, T] (True where in use), made from lengths, to each layer."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, x_lengths: Tensor) -> Tensor:
        mask = (torch.arange(x.shape[2], device=x.device) < x_lengths[:, None])[:, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        return x
