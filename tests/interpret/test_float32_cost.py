"""What float32 costs, from other orders of summation; none of them may be a different function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from exporter.graph.program import Op, Ref
from exporter.interpret.allowed_ops import resolve
from exporter.interpret.evaluate import widen
from exporter.interpret.float32_cost import (
    _REORDERED,
    _reordered,
    cost_of,
    draw_costs,
    float32_cost,
)
from exporter.interpret.run_program import run_with_truth
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


def test_what_only_integers_rest_on_is_not_drawn():
    """Four draws of a whole model in float64 would say nothing of its tokens."""
    toy, case = mixed(), mixed_case()
    drawn: list[str] = []

    def draw(op: Op, *_: Any) -> Any:
        drawn.append(op.name)
        return _reordered(op, *_)

    number, tokens = toy.program.outputs[:2]
    assert draw_costs(toy.program, case.inputs, [tokens], draw, draws=1) == {}
    assert drawn == []
    assert list(draw_costs(toy.program, case.inputs, [number, tokens], draw, draws=1)) == [number]
    assert drawn


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
        "aten.conv3d.default": (rand(1, 3, 5, 5, 5), rand(2, 3, 2, 2, 2), rand(2)),
        "aten.convolution.default": (
            rand(2, 4, 9), rand(4, 3, 5), rand(3), [2], [1], [1], True, [1], 1,
        ),
        "aten.conv_transpose1d.default": (rand(2, 4, 9), rand(4, 3, 5), rand(3), [3], [1]),
        "aten.conv_transpose2d.input": (rand(2, 4, 5, 6), rand(4, 3, 3, 2), None, [2, 1]),
        "aten.conv_transpose3d.input": (rand(1, 2, 3, 4, 5), rand(2, 3, 2, 2, 2)),
        "aten.einsum.default": ("bhid,bhjd->bhij", [rand(2, 3, 4, 8), rand(2, 3, 5, 8)]),
        "aten.scaled_dot_product_attention.default": (
            rand(2, 3, 7, 8), rand(2, 3, 9, 8), rand(2, 3, 9, 8), rand(2, 1, 7, 9) > -1.5,
        ),
        "aten._fft_r2c.default": (rand(3, 50), [1], 0, True),
        "aten.stft.default": (
            rand(2, 300), 50, 20, 50, rand(50).abs(), False, True, True,
        ),
        "aten.sum.default": (rand(2, 4, 5),),
        "aten.sum.dim_IntList": (rand(2, 4, 5), [-1, 0], True),
        "aten.mean.default": (rand(2, 4, 5),),
        "aten.mean.dim": (rand(2, 4, 5), [1]),
        "aten.var.correction": (rand(2, 4, 500), [-1], {"correction": 1, "keepdim": True}),
        "aten.var.dim": (rand(2, 4, 500), [-1, 0], False),
        "aten.var.default": (rand(2, 4, 500), True),
        "aten.std.correction": (rand(2, 4, 500), None, {"correction": 0}),
        "aten.std.dim": (rand(2, 4, 500), [1], True, True),
        "aten.std.default": (rand(2, 500), False),
        "aten.layer_norm.default": (rand(2, 4, 500), [4, 500], rand(4, 500), rand(4, 500), 1e-3),
        "aten.rms_norm.default": (rand(2, 500), [500], rand(500)),
        "aten.group_norm.default": (rand(2, 4, 300), 2, rand(4), rand(4), 1e-3),
        "aten.instance_norm.default": (
            rand(2, 4, 300), rand(4), None, None, None, True, 0.1, 1e-3, True,
        ),
        "aten.softmax.int": (rand(3, 900), -1),
        "aten._softmax.default": (rand(3, 900), 0, False),
        "aten.log_softmax.int": (rand(3, 900), 1),
        "aten._log_softmax.default": (rand(3, 900), 1, False),
        "aten.logsumexp.default": (rand(3, 900), [1], True),
        "aten.linalg_vector_norm.default": (rand(3, 900), 2, [1]),
        "aten.norm.ScalarOpt_dim": (rand(3, 900), 1, [0], True),
        "aten.cumsum.default": (rand(3, 900, 2), 1),
        "aten.cumprod.default": (1 + rand(3, 30) / 9, 1),
        "aten.logcumsumexp.default": (rand(3, 50), 1),
        "aten.index_add.default": (rand(4, 6), 1, torch.tensor([0, 3, 3, 5, 0]), rand(4, 5)),
        "aten.scatter_add.default": (
            rand(4, 6), 1, torch.randint(6, (4, 9), generator=draw), rand(4, 9),
        ),
        "aten.adaptive_avg_pool1d.default": (rand(2, 3, 700), [1]),
        "aten.adaptive_avg_pool2d.default": (rand(2, 3, 20, 30), [1, 1]),
    }[target]  # fmt: skip


@pytest.mark.parametrize("target", sorted(_REORDERED))
@pytest.mark.parametrize("seed", range(3))
def test_every_order_is_the_same_function(target: str, seed: int):
    *given, last = operands(target)
    options = last if isinstance(last, dict) else {}
    given = given if isinstance(last, dict) else [*given, last]
    op = Op(name="y", target=target, args=tuple(given), kwargs=options, kind="tensor")

    def wide(value: Any) -> Any:
        return [wide(v) for v in value] if isinstance(value, list) else widen(value)

    expected = resolve(op.target)(*map(wide, given), **options)
    found = _REORDERED[target](torch.Generator().manual_seed(seed), *given, **options)
    assert found is not None
    assert found.shape == expected.shape
    assert widen(found).dtype == expected.dtype and found.dtype != expected.dtype
    torch.testing.assert_close(widen(found), expected, rtol=2e-5, atol=2e-5)


def test_a_running_sum_costs_what_its_order_costs():
    """One after the other in float32, which torch itself never does, or in blocks."""
    x = 0.05 * torch.rand(2, 24_000, generator=torch.Generator().manual_seed(0))
    op = Op(name="y", target="aten.cumsum.default", args=(Ref("x"), 1), kwargs={}, kind="tensor")
    truth = torch.cumsum(x.double(), 1).numpy()
    cost = cost_of(op, {"x": x}.__getitem__, truth)
    one_by_one = np.cumsum(x.numpy(), axis=1, dtype=np.float32)
    assert cost.max_abs is not None
    assert cost.max_abs == pytest.approx(np.abs(one_by_one - truth).max())
    assert cost.max_abs > 5 * np.abs(torch.cumsum(x, 1).numpy() - truth).max()


def test_a_norm_over_a_long_axis_is_added_up_in_blocks():
    """A kernel that adds a hundred thousand terms one by one loses digits that it need not."""
    x = 2 + torch.rand(1, 1, 150_000, generator=torch.Generator().manual_seed(0))
    args = (Ref("x"), 1, None, None, 1e-5)
    op = Op(name="y", target="aten.group_norm.default", args=args, kwargs={}, kind="tensor")
    wide = x.double()
    truth = ((wide - wide.mean()) / (wide.var(unbiased=False) + 1e-5).sqrt()).numpy()
    cost = cost_of(op, {"x": x}.__getitem__, truth)
    assert cost.max_abs is not None and cost.max_abs < 2e-5
