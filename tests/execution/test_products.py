"""Products by onnxruntime's kernels: proved, or computed again by torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from exporter.core.stopwatch import collecting
from exporter.execution import products
from exporter.execution.products import Products

ROWS, INSIDE, COLUMNS = 96, 512, 384


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def operands(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(4, ROWS // 4, INSIDE, generator=draw).to(request.param)
    return x, torch.randn(COLUMNS, INSIDE, generator=draw).to(request.param)


def test_a_product_is_proved_and_equals_torch_s_within_rounding(operands: tuple[Tensor, Tensor]):
    x, weight = operands
    made = Products()
    found, expected = made.multiply(x, weight), functional.linear(x, weight)
    assert made.counts == {"proved": 1}
    assert found.dtype == expected.dtype and found.shape == expected.shape
    scale = float(x.norm(dim=-1).max() * weight.norm(dim=-1).max())
    assert float((found - expected).abs().max()) < 8 * torch.finfo(x.dtype).eps * scale


def test_an_empty_and_a_small_product_are_torch_s():
    made = Products()
    weight = torch.randn(8, 4)
    for rows in (0, 3):
        x = torch.randn(rows, 4)
        assert torch.equal(made.multiply(x, weight), functional.linear(x, weight))
    assert made.counts == {"small": 2}


def _one_element(found: Tensor) -> None:
    # float32 products are of small changes: a twentieth of one is what may not be missed.
    found[40, 11] += (1.0 if found.dtype == torch.float32 else 1e-9) * found.abs().mean()


def _in_float32(found: Tensor) -> None:
    # Rounded once, far more coarsely than the dtype asks for.
    found.copy_(found.bfloat16() if found.dtype == torch.float32 else found.float())


def _a_row_of_another(found: Tensor) -> None:
    found[7] = found[8]


def _swapped_columns(found: Tensor) -> None:
    found[:, [3, 4]] = found[:, [4, 3]]


def _transposed_tile(found: Tensor) -> None:
    found[:16, :16] = found[:16, :16].T.clone()


def _not_a_number(found: Tensor) -> None:
    found[95, 383] = float("nan")


def _zeros(found: Tensor) -> None:
    found[64:] = 0


@pytest.mark.parametrize(
    "spoil",
    [
        _one_element,
        _in_float32,
        _a_row_of_another,
        _swapped_columns,
        _transposed_tile,
        _not_a_number,
        _zeros,
    ],
)
def test_a_wrong_product_is_refused_and_computed_by_torch(
    operands: tuple[Tensor, Tensor],
    spoil: Callable[[Tensor], None],
    monkeypatch: pytest.MonkeyPatch,
):
    run = Products._run

    def wrong(self: Products, rows: Tensor, weight: Tensor) -> Tensor:
        found = run(self, rows, weight).clone()
        spoil(found)
        return found

    monkeypatch.setattr(Products, "_run", wrong)
    made = Products()
    x, weight = operands
    # Adjacent columns drawn with the same sign could be swapped unseen: these are not.
    draws = made._random_signs(COLUMNS, x.dtype)
    assert float(draws[3]) != float(draws[4]) or spoil is not _swapped_columns
    assert torch.equal(made.multiply(x, weight), functional.linear(x, weight))
    assert made.counts == {"refused": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_operands_that_are_not_finite_are_torch_s(operands: tuple[Tensor, Tensor], value: float):
    x, weight = operands
    x[1, 2, 3] = value
    made = Products()
    found, expected = made.multiply(x, weight), functional.linear(x, weight)
    assert made.counts == {"refused": 1}
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scales_of_rows_may_differ(operands: tuple[Tensor, Tensor], scale: float):
    x, weight = operands
    x[0] *= scale
    made = Products()
    made.multiply(x, weight * scale)
    assert made.counts == {"proved": 1}


def test_its_time_is_not_counted_twice(operands: tuple[Tensor, Tensor]):
    with collecting() as spent:
        Products().multiply(*operands)
    assert not spent


def test_signs_are_signs_and_the_same_in_every_run():
    first, second = (Products()._random_signs(1000, torch.float64) for _ in range(2))
    assert torch.equal(first, second)
    assert set(first.tolist()) == {-1.0, 1.0} and abs(float(first.sum())) < 100


def test_the_limit_is_far_below_what_float32_costs():
    # One element wrong by this share of a typical value is still refused.
    share = products._SLACK * torch.finfo(torch.float64).eps * 2048
    assert share < 1e-3 * torch.finfo(torch.float32).eps
