"""The free float64 value of a linear map from the local one."""

from __future__ import annotations

import pytest
import torch

from exporter.interpret.linear_change import LARGEST, _subtract, add_change


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
    found = add_change(local, free, x.double() if wide else x, weight, torch.nn.functional.linear)
    expected = torch.nn.functional.linear(free, weight.double(), bias)
    assert found is not None
    cost = (torch.nn.functional.linear(x, weight, bias.float()) - local).abs().max()
    assert (found - expected).abs().max() < 1e-3 * cost


def test_inputs_that_are_equal_give_the_local_value():
    _, x, weight, bias = inputs(0.0)
    local = torch.nn.functional.linear(x.double(), weight.double(), bias)
    found = add_change(local, x.double(), x, weight, torch.nn.functional.linear)
    assert found is not None and torch.equal(found, local)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.0, 8 * LARGEST])
def test_inputs_that_are_far_apart_are_left_to_float64(value: float):
    _, x, weight, _ = inputs(0.0)
    free = x.double()
    free[1, 2, 3] += value * float(x.abs().max())
    assert (
        add_change(
            torch.zeros(4, 50, 32, dtype=torch.float64), free, x, weight, torch.nn.functional.linear
        )
        is None
    )


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("apart", [0.0, 1e-40, 1e-7, 1e30, float("inf"), float("nan")])
def test_the_compiled_difference_is_torch_s(apart: float, wide: bool):
    free, x, _, _ = inputs(1e-6)
    free[1, 2, 3] = float(x[1, 2, 3]) - apart
    local = x.double() if wide else x
    found, largest, size = _subtract(free, local)
    expected = (free - local).float()
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
    torch.testing.assert_close(largest, float(expected.abs().max()), rtol=0, atol=0, equal_nan=True)
    assert size == float(x.abs().max())
    # Views in another order take torch's way and find the same.
    turned = [t.transpose(0, 1) for t in (free, local)]
    again, *figures = _subtract(*turned)
    assert torch.equal(
        again.transpose(0, 1).contiguous().view(torch.int32), found.view(torch.int32)
    )
    torch.testing.assert_close(figures, [largest, size], rtol=0, atol=0, equal_nan=True)


def test_a_local_value_that_is_not_finite_is_left_to_float64():
    _, x, weight, _ = inputs(0.0)
    for value in (float("nan"), float("inf"), float("-inf")):
        free, local = x.double(), x.clone()
        local[0, 0, 0] = value
        free[0, 0, 0] = value
        assert (
            add_change(
                torch.zeros(4, 50, 32, dtype=torch.float64),
                free,
                local,
                weight,
                torch.nn.functional.linear,
            )
            is None
        )
