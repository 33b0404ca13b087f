"""Ops that only rearrange: what is inherited, where its worst element is, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exporter.graph.program import Op, Ref
from exporter.interpret.evaluate import call
from exporter.interpret.rearranged import rearrange, rearranged_source

SHAPE = (3, 1, 5, 4)


def op(target: str, *rest: object) -> Op:
    return Op(name="behind", target=target, args=(Ref("front"), *rest), kwargs={}, kind="tensor")


OPS = [
    op("aten.transpose.int", 1, -1),
    op("aten.transpose.int", 0, 2),
    op("aten.permute.default", (3, 0, -2, 1)),
    op("aten.view.default", (15, 4)),
    op("aten.unsqueeze.default", 2),
    op("aten.squeeze.dim", 1),
    op("aten.clone.default"),
]


@pytest.mark.parametrize("made", OPS, ids=lambda made: made.target)
def test_numpy_rearranges_as_the_op_does(made: Op):
    value = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    behind = call(made, {"front": value}.__getitem__)
    held = rearrange(made, value.numpy(), tuple(behind.shape))
    assert held is not None and rearranged_source(made) == "front"
    np.testing.assert_array_equal(held.expected, behind.numpy())
    for flat in range(value.numel()):
        index = np.unravel_index(flat, SHAPE)
        assert behind[held.place([int(i) for i in index])] == value[index]


@pytest.mark.parametrize(
    "made",
    [op("aten.relu.default"), op("aten.slice.Tensor", 0, 1), op("aten.expand.default", (3,))],
)
def test_other_ops_rearrange_nothing(made: Op):
    assert rearranged_source(made) is None
    assert rearrange(made, np.zeros(SHAPE, np.float32), SHAPE) is None


def test_a_value_of_another_size_is_not_taken():
    assert rearrange(OPS[0], np.zeros((3, 1, 5, 3), np.float32), (3, 4, 5, 1)) is None
    assert rearrange(OPS[3], np.zeros((15, 3), np.float32), (15, 4)) is None
