"""Several rows for each item of a batch, as codebooks have them: no item moves, no alarm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.contracts.runner import run_contracts
from exporter.contracts.shapes.sizes import sweep_axes
from exporter.contracts.target import Target
from exporter.core.tensors import Axis, TensorSpec
from exporter.parity.status import Status
from tests.support.target_from_module import target_from_module

W = 6
FRAMES = Axis(name="frames")


class Heads(nn.Module):
    """``[B, T, W]`` to ``[4 B, T, W]``.

    Args:
        order: "beside" each other stand the rows of an item, "behind" each other those of a head;
            "mixed" is what one row gets from another.
    """

    def __init__(self, order: str):
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Linear(W, W)
        self.heads = nn.Parameter(torch.randn(4, W))
        self.order = order

    def forward(self, x: Tensor) -> tuple[Tensor]:
        y = self.mix(x)
        if self.order == "behind":
            return ((y[None] * self.heads[:, None, None]).reshape(-1, x.shape[1], W),)
        rows = (y[:, None] * self.heads[None, :, None]).reshape(-1, x.shape[1], W)
        return (rows.cumsum(0) if self.order == "mixed" else rows,)


class Groups(Heads):
    """``[4 B, T, W]`` to ``[B, T, W]``."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        grouped = self.mix(x.reshape(-1, 4, x.shape[1], W))
        return ((grouped * self.heads[None, :, None]).sum(1),)


def target(module: nn.Module, rows: Axis, count: int) -> Target:
    made = TensorSpec(
        name="y", dtype="float32", shape=("y_rows", "frames", W), axes=(Axis(name="y_rows"), FRAMES)
    )
    taken = TensorSpec(
        name="x", dtype="float32", shape=(rows.name, "frames", W), axes=(rows, FRAMES)
    )
    draw = np.random.Generator(np.random.PCG64(1))
    values = {"x": draw.standard_normal((count, 9, W), dtype=np.float32)}
    return target_from_module(
        module.eval(), inputs=(taken,), outputs=(made,), values=values, with_onnx=False
    )


@pytest.mark.parametrize(
    ("order", "status"),
    [("beside", Status.PASS), ("behind", Status.PASS), ("mixed", Status.FAIL)],
)
def test_four_rows_for_each_item_come_in_either_order(order: str, status: Status):
    torch_side, _ = run_contracts(
        target(Heads(order), Axis(name="batch"), 3), {"determinism": None}
    )
    assert torch_side.status == status, torch_side


def test_rows_in_groups_are_no_items_and_only_whole_groups_are_tried():
    made = target(Groups(""), Axis(name="rows", minimum=2, multiple_of=4), 12)
    assert made.batch is None
    assert run_contracts(made, {"determinism": None})[0].status == Status.PASS
    assert run_contracts(made, {"padding": None})[0].status == Status.NOT_APPLICABLE
    axes, _ = sweep_axes(made, {}, {})
    sizes = next(axis.sizes for axis in axes if axis.name == "rows")
    assert sizes and all(size % 4 == 0 for size in sizes)
    given, _ = sweep_axes(made, {"rows": (3,)}, {})
    assert next(axis.sizes for axis in given if axis.name == "rows") == (3,)
