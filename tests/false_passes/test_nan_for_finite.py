"""Results that are no numbers, or nothing but rounding, on inputs that are finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.contracts import ContractResult, run_contracts
from exporter.contracts.compare.agree import disagreement
from exporter.contracts.compare.differ import MismatchKind, differ
from exporter.contracts.compare.noise import Noise
from exporter.core.tensors import Axis
from exporter.parity.status import Status
from tests.contracts.zoo.toy import frames, output, subject
from tests.false_passes.way import Told, way

SHORT = Axis(name="time", minimum=1)
Y = output("batch", "time", 4)


class Spread(nn.Module):
    """Divides by the spread of the steps: of one step it is NaN (torch.std is unbiased)."""

    def __init__(self, epsilon: float = 1e-3):
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x) / (x.std(1, keepdim=True) + self.epsilon)


class AtMost(nn.Module):
    """Infinite from a length on."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], dtype=x.dtype)[None, :, None]
        return x + torch.exp(steps * 2.5)


class Constant(nn.Module):
    """Normalises over the steps, with an epsilon that is nothing or something."""

    def __init__(self, epsilon: float):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        x = x * 0.1
        centred = x - x.mean(1, keepdim=True)
        scale = (centred.square().mean(1, keepdim=True) + self.epsilon).sqrt()
        return centred / scale


def made(module: nn.Module, **options: Any):
    return subject(module, frames(4, SHORT), Y, **options)


def row(contract: str, module: nn.Module, side: str = "torch", **settings: Any) -> ContractResult:
    found = run_contracts(made(module, with_onnx=side == "onnx"), {contract: settings or None})
    return {result.side: result for result in found}[side]


def told(found: ContractResult) -> Told:
    text = f"{found.status}: {found.observed}; {found.reason}; {found.where}"
    return Told(exit_code=0 if found.status is Status.PASS else 1, text=text)


@way("all outputs are NaN for one frame, in PyTorch", says="'y' are NaN or infinite")
def test_nan_for_one_frame():
    return told(row("shapes", Spread()))


@way("all outputs are NaN for one frame, in PyTorch and in the file alike", says="NaN or infinite")
def test_nan_for_one_frame_in_the_file():
    return told(row("shapes", Spread(), "onnx"))


@way("infinite from a length on", says="'y' are NaN or infinite")
def test_infinite_from_a_length_on():
    return told(row("shapes", AtMost()))


@way("a constant that is a quotient of two roundings, in PyTorch", says="in float64")
def test_constant_is_rounding():
    return told(row("silence", Constant(1e-30), signals=("constant",)))


@way("a constant that is a quotient of two roundings, on both sides", says="in ONNX")
def test_constant_is_rounding_in_the_file():
    return told(row("silence", Constant(1e-30), "onnx", signals=("constant",)))


@way("NaN in PyTorch and a number in ONNX, for a finite input", says="is NaN in PyTorch and 0.43")
def test_nan_on_one_side():
    subject_ = made(Constant(1e-5), with_onnx=True)
    left = {"y": np.full((1, 2, 4), np.nan, np.float32)}
    right = {"y": np.full((1, 2, 4), 0.43, np.float32)}
    inputs = {"x": np.ones((1, 2, 4), np.float32)}
    found = disagreement(subject_, inputs, left, right, Noise())
    return Told(exit_code=1 if found else 0, text=found.text() if found else "they agree")


@way("a number in PyTorch and NaN in ONNX", says="is 0.43 in PyTorch and NaN")
def test_nan_on_the_other_side():
    found = differ(np.array([0.43]), np.array([np.nan]), Noise(), "y")
    text = "" if found is None else found.text("in PyTorch", "in ONNX")
    return Told(exit_code=1 if found else 0, text=text.replace("the first is", "is"))


@pytest.mark.parametrize("side", ["torch", "onnx"])
def test_with_an_epsilon_a_constant_is_no_alarm(side):
    assert row("silence", Constant(1e-3), side).status is Status.PASS


def test_a_spread_of_at_least_two_frames_passes():
    found = row("shapes", Spread(), sizes={"time": (2, 5, 40)})
    assert found.status is Status.PASS, found.reason


def test_what_is_declared_to_be_rounding_is_said_and_passes():
    found = row("silence", Constant(1e-30), signals=("constant",), steady="report")
    assert found.status is Status.PASS
    assert "in float64" in found.details["signals"]["constant"]


def test_messages_hold_lengths_and_counts_but_no_infinity():
    shorter = differ(np.zeros((1, 61)), np.zeros((1, 64)), Noise(), "y")
    ids = differ(np.array([1, 2, 3]), np.array([1, 5, 3]), Noise(), "bins")
    assert shorter is not None and shorter.kind is MismatchKind.SHAPE
    assert ids is not None and ids.kind is MismatchKind.DISCRETE
    assert shorter.text("in chunks", "offline") == (
        "has the shape [1, 61] in chunks and [1, 64] offline"
    )
    assert ids.text("alone", "there") == (
        "differs in 1 of 3 values, the first is 2 alone and 5 there"
    )
    assert ids.limit_text == shorter.limit_text == "equal"


def test_a_limit_is_never_below_what_rounding_leaves_of_the_output():
    noise = Noise(scales={"y": 1.0})
    assert noise.limit("y", 0.0, 100) > 1e-15
    assert noise.limit("y", 1.0, 100) < 1e-5
