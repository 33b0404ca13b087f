"""The free float64 value of a linear map from the local one."""

from __future__ import annotations

import pytest
import torch

from exporter.execution.linear_change import LARGEST, add_change


def inputs(apart: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4, 50, 64, generator=draw)
    weight, bias = torch.randn(32, 64, generator=draw), torch.randn(32, generator=draw)
    free = x.double() + apart * torch.randn(x.shape, generator=draw, dtype=torch.float64)
    return free, x, weight, bias.double()


@pytest.mark.parametrize("apart", [1e-12, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("wide", [False, True])
def test_it_equals_the_float64_product_far_below_what_float32_costs(apart: float, wide: bool):
    free, x, weight, bias = inputs(apart)
    local = torch.nn.functional.linear(x.double(), weight.double(), bias)
    found = add_change(local, free, x.double() if wide else x, weight)
    expected = torch.nn.functional.linear(free, weight.double(), bias)
    assert found is not None
    cost = (torch.nn.functional.linear(x, weight, bias.float()) - local).abs().max()
    assert (found - expected).abs().max() < 1e-3 * cost


def test_inputs_that_are_equal_give_the_local_value():
    _, x, weight, bias = inputs(0.0)
    local = torch.nn.functional.linear(x.double(), weight.double(), bias)
    found = add_change(local, x.double(), x, weight)
    assert found is not None and torch.equal(found, local)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.0, 8 * LARGEST])
def test_inputs_that_are_far_apart_are_left_to_float64(value: float):
    _, x, weight, _ = inputs(0.0)
    free = x.double()
    free[1, 2, 3] += value * float(x.abs().max())
    assert add_change(torch.zeros(4, 50, 32, dtype=torch.float64), free, x, weight) is None
