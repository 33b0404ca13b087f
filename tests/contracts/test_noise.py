"""Limits come from what float32 costs, and float64 leaves a module as it was."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from exporter.contracts import run_contracts
from exporter.contracts.compare import noise
from exporter.contracts.compare.noise import Noise, distance, format_of, noise_of
from exporter.interpret.eager_float64 import call_in_double, copied_in_double, large_weights
from tests.contracts.zoo.toy import Conv, Stack, features, output, subject


class Mixed(nn.Module):
    """Layers that check dtypes, constants made in forward, and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x.float())
        y = self.conv(y.transpose(1, 2)).transpose(1, 2) + torch.ones(4)
        y, _ = self.attention(y, y, y)
        return self.norm(y.to(torch.float32))


def test_float64_equals_a_widened_copy_and_changes_nothing() -> None:
    module = Mixed().eval().requires_grad_(False)
    x = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        single = module(x)
        double = call_in_double(module, {"x": x})
    assert double.dtype == torch.float64
    assert 0 < float((single - double).abs().max()) < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(value.dtype == torch.float32 for value in module.state_dict().values())


class Shared(nn.Module):
    """A layer under two names, and its weight in a third."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.again(self.first(x)))


def test_a_layer_with_two_names_is_put_back_as_it_was() -> None:
    module = Shared().eval().requires_grad_(False)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    before = module(x)
    double = call_in_double(module, {"x": x})
    assert double.dtype == torch.float64
    assert all(value.dtype == torch.float32 for value in module.state_dict().values())
    assert module.tied.weight is module.first.weight is module.again.weight
    assert torch.equal(module(x), before)


class Large(nn.Module):
    """Linear layers whose weights are not copied, in two and three dimensions, one shared."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(400, 1000)
        self.second = nn.Linear(1000, 400, bias=False)
        self.again = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu(self.first(x)))
        return self.again(y.reshape(-1, 400)) * self.first.weight[:, 0].to(self.first.weight.dtype)


def test_large_weights_are_not_copied_and_give_the_same() -> None:
    module = Large().eval().requires_grad_(False)
    assert set(large_weights(module)) == {"first.weight", "second.weight"}
    x = torch.randn(3, 5, 400, generator=torch.Generator().manual_seed(2))
    found = call_in_double(module, {"x": x})
    wanted = copy.deepcopy(module).double()(x.double())
    assert found.dtype == torch.float64 and found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 1e-13
    assert module.first.weight.dtype == torch.float32
    rounded = call_in_double(module, {"x": x}, rounded=torch.float32)
    assert 1e-9 < float((rounded - wanted).abs().max()) < 1e-5


def test_a_model_is_too_large_for_what_is_copied_of_it_and_not_for_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert copied_in_double(Large()) == 1000  # the bias, once for both of its names

    class OverTime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large = Large()
            self.open = nn.Linear(4, 400)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.large(self.open(x.transpose(1, 2)))[..., :4]

    made = subject(OverTime(), features(), output("batch", "time", 4))
    copied = copied_in_double(made.module)
    assert copied == 1000 + 4 * 400 + 400
    inputs = {name: value.astype(np.float32) for name, value in made.cases[0].inputs.items()}
    monkeypatch.setattr(noise, "_MOST_COPIED", copied)
    assert noise.measure_noise(made, inputs).shares["y"] > 0
    monkeypatch.setattr(noise, "_MOST_COPIED", copied - 1)
    found = noise.measure_noise(made, inputs)
    assert not found.shares and "too large" in found.why


def test_a_large_weight_that_is_written_to_is_not_changed() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(600, 600)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.inner.weight.t().mul_(2.0)
            return self.inner(x)

    module = Writes().eval().requires_grad_(False)
    before = module.inner.weight.clone()
    with pytest.raises(RuntimeError, match="writes to a large weight"):
        call_in_double(module, {"x": torch.ones(1, 600)})
    assert torch.equal(module.inner.weight, before)


def test_every_layer_gets_a_share() -> None:
    made = subject(
        Stack(Conv(4, 3, 2, 0), Conv(4, 3, 2, 0)), features(), output("batch", 4, "time")
    )
    noise = noise_of(made)
    assert {"layers.0.conv", "layers.1.conv", "y"} <= set(noise.shares)
    assert all(share < 1e-6 for share in noise.shares.values())
    # The floor of the parity policy: 4 x 6 units of float32.
    assert noise.limit("unknown", 1.0, 1000) == pytest.approx(24 * 2**-24, rel=0.01)


def test_a_module_that_insists_on_float32_is_judged_by_the_floor() -> None:
    class Insists(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.dtype != torch.float32:
                raise TypeError("float32 only")
            return x * 2

    noise = noise_of(subject(Insists(), features(), output("batch", 4, "time")))
    assert not noise.shares and "does not run in float64" in noise.why


def test_what_cannot_be_compared_is_infinitely_far() -> None:
    one = np.ones(3, np.float32)
    assert distance(one, np.ones(4, np.float32)) == math.inf
    assert distance(one, np.array([1, np.nan, 1], np.float32)) == math.inf
    assert distance(one, np.array([1, np.inf, 1], np.float32)) == math.inf
    assert distance(np.array([1]), np.array([2])) == math.inf
    assert distance(one, one) == 0.0 and distance(one[:0], one[:0]) == 0.0
    assert not Noise().limit("x", math.nan, 3) >= 1


def test_the_floor_is_that_of_the_format_that_the_whole_module_is_in() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    assert format_of(Two()) == "float32"
    assert format_of(Two().half()) == "float16"
    assert format_of(Two().bfloat16()) == "bfloat16"
    assert format_of(nn.Identity()) == "float32"
    mixed = Two()
    mixed.first.half()
    assert format_of(mixed) == "float32"
    half = Noise(shares={"y": 0.5}, number_format="float16").floor
    assert half.limit("y", 1.0, 1000) == pytest.approx(24 * 2**-11, rel=0.01)


class ByLength(nn.Module):
    """Rounds some units of float16 up when the input is long: numerics, not structure."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x.to(self.conv.weight.dtype))
        # No rounding in float64: there the lengths agree.
        coarse = y.half() * (1 + 2.0**-8) if x.shape[-1] > 12 else y.half()
        return y if y.dtype == torch.float64 else coarse.to(y.dtype)


@pytest.mark.parametrize(("dtype", "verdict"), [("float16", "pass"), ("float32", "fail")])
def test_what_a_few_roundings_of_the_format_explains_is_not_a_dependence_on_the_length(
    dtype: str, verdict: str
) -> None:
    module = ByLength().to(getattr(torch, dtype))
    made = subject(module, features(), output("batch", 4, "time", dtype=dtype))
    found, _ = run_contracts(made, {"causality": {"lookahead_samples": 0}})
    assert found.status == verdict, found.reason
