"""Modules that fall over at the edge, and modules with a guard there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.core.tensors import Axis, TensorSpec
from tests.contracts.zoo.toy import Toy, frames, output, subject

Y = output("batch", "time", 4)
INPUTS = frames()


class Two(nn.Module):
    """The part under test, then a linear layer."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part
        self.after = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.part(x))


class Log(nn.Module):
    """Log energy, with a floor or without."""

    def __init__(self, floor: float):
        super().__init__()
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        power = x * x
        return torch.log(power.clamp(min=self.floor) if self.floor else power)


class Standardise(nn.Module):
    """Divides by the standard deviation of each row."""

    def __init__(self, epsilon: float):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((1, 2), keepdim=True)
        return centred / (centred.pow(2).mean((1, 2), keepdim=True).sqrt() + self.epsilon)


class Peak(nn.Module):
    """Divides by the loudest sample."""

    def __init__(self, least: float):
        super().__init__()
        self.least = least

    def forward(self, x: Tensor) -> Tensor:
        return x / x.abs().amax((1, 2), keepdim=True).clamp(min=self.least)


class Gate(nn.Module):
    """Attention over the steps that are loud enough; silence leaves none."""

    def __init__(self, guarded: bool):
        super().__init__()
        self.guarded = guarded

    def forward(self, x: Tensor) -> Tensor:
        loud = x.abs().amax(-1) > 1e-4  # [B, T]
        scores = (x @ x.transpose(1, 2)).masked_fill(~loud[:, None, :], float("-inf"))
        weights = scores.softmax(-1)
        if self.guarded:
            weights = torch.where(loud.any(1)[:, None, None], weights, torch.zeros(()))
        return weights @ x


class First(nn.Module):
    """Reads the first step: there is none in an empty input."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x[:, :1].reshape(x.shape[0], 1, 4)


class Spill(nn.Module):
    """Centres by the mean of the whole batch: one broken row reaches all."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean()


class Tokens(nn.Module):
    """Loud steps become tokens: silence yields none when the threshold is above zero."""

    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return (x[0].abs().amax(-1) >= self.threshold).nonzero().reshape(-1)


def _make(part, with_onnx: bool = False, inputs=INPUTS):
    return lambda: subject(Two(part()), inputs, Y, with_onnx=with_onnx)


ZERO = Axis(name="time", minimum=0)
ONE_ROW = (
    TensorSpec(
        name="x", dtype="float32", shape=(1, "time", 4), axes=(Axis(name="time", minimum=4),)
    ),
)


def _tokens(threshold: float, with_onnx: bool = False):
    out = output("tokens", name="token_ids", dtype="int64")
    return lambda: subject(Tokens(threshold), ONE_ROW, out, with_onnx=with_onnx)


EXPECT = {"expect": {"silence": {"token_ids": "empty"}}}
TOYS = [
    Toy(
        name="logarithm without a floor",
        broken=True,
        make=_make(lambda: Log(0.0), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="part",
        says="silence",
    ),
    Toy(
        name="division by a standard deviation that may be 0",
        broken=True,
        make=_make(lambda: Standardise(0.0)),
        torch="fail",
        module="part",
    ),
    Toy(
        name="division by a peak that may be 0",
        broken=True,
        make=_make(lambda: Peak(0.0)),
        torch="fail",
        module="part",
    ),
    Toy(
        name="attention over loud steps, of which silence has none",
        broken=True,
        make=_make(lambda: Gate(False), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="part",
    ),
    Toy(
        name="mean of the whole batch: one NaN spoils all rows",
        broken=True,
        make=_make(Spill),
        torch="fail",
        module="part",
        says="reaches other rows",
    ),
    Toy(
        name="first step of an axis that may be empty",
        broken=True,
        make=_make(First, inputs=frames(time=ZERO)),
        torch="fail",
        module="part",
        says="empty",
    ),
    Toy(
        name="silence yields tokens",
        broken=True,
        make=_tokens(0.0),
        settings=EXPECT,
        torch="fail",
        says="should be empty",
    ),
    Toy(
        name="logarithm with a floor",
        broken=False,
        make=_make(lambda: Log(1e-10), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="standard deviation with an epsilon",
        broken=False,
        make=_make(lambda: Standardise(1e-5), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(name="peak with a least value", broken=False, make=_make(lambda: Peak(1e-6)), torch="pass"),
    Toy(
        name="attention over loud steps with a guard",
        broken=False,
        make=_make(lambda: Gate(True)),
        torch="pass",
    ),
    Toy(
        name="first step of an axis that is never empty",
        broken=False,
        make=_make(First),
        torch="pass",
    ),
    Toy(
        name="silence yields no tokens",
        broken=False,
        make=_tokens(0.01, with_onnx=True),
        settings=EXPECT,
        torch="pass",
        onnx="pass",
    ),
]
