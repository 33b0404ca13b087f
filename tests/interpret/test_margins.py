"""How far a decision was from going the other way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from exporter.graph.program import Op, Ref
from exporter.interpret.margins import Margin, margin_of
from exporter.interpret.sliced_linear import LinearSlices


def found(target: str, args: tuple, values: dict[str, Any], exact: dict[str, Any]) -> Margin | None:
    op = Op(name="d", target=target, args=args, kwargs={}, kind="tensor")
    compute = margin_of(op, values.__getitem__, exact.__getitem__)
    return None if compute is None else compute()


def test_a_threshold():
    x = torch.tensor([0.4, 0.5001, 0.9])
    exact = x.double() + torch.tensor([0.0, -2e-5, 1e-5], dtype=torch.float64)
    margin = found("aten.ge.Scalar", (Ref("x"), 0.5), {"x": x}, {"x": exact})
    assert margin is not None
    np.testing.assert_allclose(margin.distance, [0.1, 8e-5, 0.40001], rtol=1e-3)
    assert margin.noise == pytest.approx(2e-5, rel=1e-6)


def test_two_tensors_take_the_larger_noise():
    x, y = torch.zeros(2), torch.ones(2)
    exact = {"x": x.double() + 1e-7, "y": y.double() - 1e-6}
    margin = found("aten.lt.Tensor", (Ref("x"), Ref("y")), {"x": x, "y": y}, exact)
    assert margin is not None
    np.testing.assert_allclose(margin.distance, 1 - 1.1e-6)
    assert margin.noise == pytest.approx(1e-6)


@pytest.mark.parametrize(("dim", "keep", "shape"), [(-1, False, (2,)), (0, True, (1, 3))])
def test_the_gap_between_the_best_and_the_next(dim: int, keep: bool, shape: tuple):
    x = torch.tensor([[1.0, 5.0, 4.5], [2.0, 2.0, -1.0]])
    margin = found("aten.argmax.default", (Ref("x"), dim, keep), {"x": x}, {"x": x.double()})
    assert margin is not None
    assert margin.distance.shape == shape
    expected = [0.5, 0.0] if dim == -1 else [[1.0, 3.0, 5.5]]
    np.testing.assert_allclose(margin.distance, expected)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dim", [-1, 2])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_a_choice_on_what_is_too_large_to_hold_is_measured_by_rows(
    rows: int, dim: int, keep: bool, monkeypatch: pytest.MonkeyPatch
):
    draw = torch.Generator().manual_seed(0)
    wide = torch.randn(2, 5, 8, generator=draw, dtype=torch.float64)
    weight = torch.randn(16, 8, generator=draw, dtype=torch.float64)
    slices = LinearSlices(wide=wide, local=wide, weight=weight, bias=None, rows=rows)
    exact = slices.whole()
    values = {"x": (exact + 1e-6).float()}
    op = Op(
        name="d", target="aten.argmax.default", args=(Ref("x"), dim, keep), kwargs={}, kind="tensor"
    )
    whole = margin_of(op, values.__getitem__, {"x": exact}.__getitem__)
    monkeypatch.setattr(LinearSlices, "whole", lambda self: pytest.fail("held at once"))
    sliced = margin_of(op, values.__getitem__, {}.__getitem__, {"x": slices})
    assert whole is not None and sliced is not None
    expected, made = whole(), sliced()
    assert made.distance.shape == expected.distance.shape
    np.testing.assert_allclose(made.distance, expected.distance, atol=1e-12)
    assert made.noise == pytest.approx(expected.noise, rel=1e-6)


def test_of_all_elements():
    x = torch.tensor([[1.0, 5.0], [4.0, 0.0]])
    margin = found("aten.argmax.default", (Ref("x"),), {"x": x}, {"x": x.double()})
    assert margin is not None
    assert margin.distance == 1.0


def test_infinite_masks_do_not_make_the_noise_infinite():
    x = torch.tensor([-np.inf, 1.0])
    margin = found("aten.gt.Scalar", (Ref("x"), 0.0), {"x": x}, {"x": x.double() + 1e-9})
    assert margin is not None
    assert margin.noise == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.parametrize(
    ("target", "value"),
    [("aten.ge.Scalar", torch.tensor([1, 2])), ("aten.nonzero.default", torch.ones(2))],
)
def test_decisions_on_integers_and_other_ops_have_no_margin(target: str, value: torch.Tensor):
    assert found(target, (Ref("x"), 1), {"x": value}, {"x": value}) is None


def chosen(
    target: str, args: tuple, kwargs: dict, x: torch.Tensor, ours: Any, theirs: Any
) -> Margin | None:
    """The margin of indices that come as the second result of ``target``, or as its only one."""
    direct = target.startswith(("aten.arg",))
    behind = Op(name="both", target=target, args=(Ref("x"), *args), kwargs=kwargs, kind="tensors")
    op = (
        behind
        if direct
        else Op(
            name="i", target="operator.getitem", args=(Ref("both"), 1), kwargs={}, kind="tensor"
        )
    )
    values = {"x": x, op.name: torch.as_tensor(ours)}
    compute = margin_of(
        op, values.__getitem__, {"x": x.double()}.__getitem__, producer={"both": behind}.get
    )
    return None if compute is None else compute(np.asarray(theirs))


@pytest.mark.parametrize(
    ("target", "args", "kwargs", "ours", "theirs"),
    [
        ("aten.topk.default", (2, 1), {}, [[0, 2]], [[2, 0]]),
        ("aten.sort.default", (1, True), {}, [[0, 2, 1]], [[2, 0, 1]]),
        ("aten.sort.stable", (), {"stable": False, "dim": 1}, [[1, 0, 2]], [[1, 2, 0]]),
        ("aten.argsort.default", (1, True), {}, [[0, 2, 1]], [[2, 0, 1]]),
        ("aten.argmax.default", (1,), {}, [0], [2]),
        ("aten.max.dim", (1,), {}, [0], [2]),
        ("aten.max.dim", (1, True), {}, [[0]], [[2]]),
        ("aten.argmax.default", (), {}, 0, 2),
    ],
)
def test_a_choice_among_equals_has_no_margin_and_says_so(target, args, kwargs, ours, theirs):
    margin = chosen(target, args, kwargs, torch.tensor([[5.0, 1.0, 5.0]]), ours, theirs)
    assert margin is not None and margin.ties
    assert np.abs(margin.distance).max() == 0.0


def test_a_wrong_choice_has_the_distance_between_both_values():
    margin = chosen("aten.topk.default", (2, 1), {}, torch.tensor([[5.0, 1.0, 5.0]]), [[0, 2]],
                    [[2, 1]])  # fmt: skip
    assert margin is not None
    np.testing.assert_allclose(margin.distance, [[0.0, 4.0]])


@pytest.mark.parametrize("theirs", [[[2, 2]], [[0, 3]], [[-1, 0]]])
def test_a_place_that_is_chosen_twice_or_does_not_exist_is_never_a_tie(theirs):
    margin = chosen("aten.topk.default", (2, 1), {}, torch.tensor([[5.0, 5.0, 5.0]]), [[0, 2]],
                    theirs)  # fmt: skip
    assert margin is not None
    assert np.isnan(margin.distance).any()


def test_a_stable_sort_has_promised_an_order():
    kwargs = {"stable": True, "dim": 1}
    margin = chosen("aten.sort.stable", (), kwargs, torch.tensor([[5.0, 5.0]]), [[0, 1]], [[1, 0]])
    assert margin is not None and not margin.ties


def test_the_third_best_is_not_excused_by_a_close_second():
    """The gap between the two best says nothing about a choice of another one."""
    x = torch.tensor([[1.0, 1.0 + 2.0**-22, 0.0]])
    margin = chosen("aten.argmax.default", (1,), {}, x, [1], [2])
    assert margin is not None
    assert margin.distance == pytest.approx(1.0)
