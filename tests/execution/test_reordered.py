"""What float32 costs, from other orders of summation; none of them may be a different function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from exporter.execution.evaluate import call, run_with_truth
from exporter.execution.reordered import _REORDERED, float32_cost
from exporter.graph.program import Op, Ref
from tests.support.toys import mixed, mixed_case


def test_the_cost_is_that_of_rounding():
    toy, case = mixed(), mixed_case()
    name = toy.program.outputs[0]
    plain, truth = run_with_truth(toy.program, case.inputs)
    own = np.abs(plain["y"] - truth["y"]).max()
    cost = float32_cost(toy.program, case.inputs, [name])[name]
    assert cost.max_abs is not None
    assert own / 10 < cost.max_abs < 30 * own
    assert cost.elements == truth["y"].size


def test_only_what_was_asked_for_is_computed():
    toy = mixed()
    first = next(op.name for op in toy.program.ops if op.target == "aten.layer_norm.default")
    assert list(float32_cost(toy.program, mixed_case().inputs, [first], draws=2)) == [first]
    integers = toy.program.outputs[1]
    assert float32_cost(toy.program, mixed_case().inputs, [integers], draws=2) == {}


def operands(target: str) -> tuple[Any, ...]:
    draw = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    return {
        "aten.linear.default": (rand(2, 5, 8), rand(3, 8), rand(3)),
        "aten.matmul.default": (rand(2, 4, 8), rand(2, 8, 3)),
        "aten.mm.default": (rand(4, 8), rand(8, 3)),
        "aten.bmm.default": (rand(2, 4, 8), rand(2, 8, 3)),
        "aten.addmm.default": (rand(3), rand(4, 8), rand(8, 3)),
        "aten.conv1d.default": (rand(2, 4, 20), rand(6, 4, 5), rand(6), (2,), (3,), (2,)),
        "aten.conv2d.default": (
            rand(2, 4, 3, 20), rand(6, 4, 1, 5), rand(6), (1, 2), (0, 3), (1, 2),
        ),
        "aten.sum.default": (rand(2, 4, 5),),
        "aten.sum.dim_IntList": (rand(2, 4, 5), [-1, 0], True),
        "aten.mean.default": (rand(2, 4, 5),),
        "aten.mean.dim": (rand(2, 4, 5), [1]),
    }[target]  # fmt: skip


@pytest.mark.parametrize("target", sorted(_REORDERED))
def test_every_order_is_the_same_function(target: str):
    given = operands(target)
    values = {f"v{i}": v for i, v in enumerate(given) if isinstance(v, torch.Tensor)}
    args = tuple(Ref(f"v{i}") if f"v{i}" in values else v for i, v in enumerate(given))
    op = Op(name="y", target=target, args=args, kwargs={}, kind="tensor")
    expected = call(op, lambda name: values[name].double())
    found = _REORDERED[target](torch.Generator().manual_seed(1), *given)
    assert found is not None
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_what_it_cannot_reorder_it_leaves():
    draw = torch.Generator()
    x = torch.ones(1, 4, 6)
    assert _REORDERED["aten.matmul.default"](draw, torch.ones(4), torch.ones(4)) is None
    depthwise = _REORDERED["aten.conv1d.default"]
    assert depthwise(draw, x, torch.ones(4, 1, 3), None, (1,), (0,), (1,), 4) is None
    total = _REORDERED["aten.sum.dim_IntList"]
    assert total(draw, x.to(torch.int64), [0]) is None
    assert total(draw, x, [0], dtype=torch.float64) is None
    assert total(draw, x[..., :0], [2]) is None
    tall = _REORDERED["aten.conv2d.default"]
    assert tall(draw, x[None], torch.ones(2, 1, 2, 2)) is None


def test_a_running_sum_of_equal_terms_costs_what_no_order_of_parts_shows():
    # The frames of digital silence: torch's sum of parts is nearly exact, a running sum is not.
    silence = torch.full((1, 400, 3), -11.512925)
    exact = silence.double().sum(1)
    torchs = (silence.sum(1).double() - exact).abs().max()
    running = _REORDERED["aten.sum.dim_IntList"](torch.Generator().manual_seed(0), silence, [1])
    assert running is not None
    found = (running.double() - exact).abs().max()
    assert found > 4 * torchs
    assert found < 400 * 2.0**-24 * exact.abs().max()
