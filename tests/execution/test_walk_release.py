"""What a walk held is free when the walk is over, not when the garbage collector comes by."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from exporter.core.tensors import Axis, TensorSpec
from exporter.execution import lockstep
from exporter.execution.deployment import Deployment
from exporter.execution.lockstep import Lockstep
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.index import index_graph
from exporter.graph.taps import plan_taps


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer(x).relu(),)


def lockstep_of_net() -> Lockstep:
    spec = TensorSpec(name="x", dtype="float32", shape=("n", 4), axes=(Axis(name="n"),))
    out = TensorSpec(name="y", dtype="float32", shape=("n", 4), axes=(Axis(name="n"),))
    captured = capture(
        Net().eval().requires_grad_(False),
        {"x": torch.ones(3, 4)},
        {"x": {0: torch.export.Dim("n")}},
    )
    exported = export(captured, inputs=(spec,), outputs=(out,), opset=18)
    graph = index_graph(ir.to_proto(exported.model), Path())
    return Lockstep(
        exported.program,
        graph,
        plan_taps(exported.program, graph),
        deployment=Deployment(threads=1),
        budget=1 << 20,
    )


def test_a_finished_walk_leaves_no_cycle():
    made = lockstep_of_net()
    held = weakref.ref(made)
    gc.disable()
    try:
        assert sum(1 for _ in made.walk({"x": np.ones((5, 4), np.float32)})) >= 2
        del made
        assert held() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("rows", "told"), [(4, 0), (5, 1)])
def test_freed_values_are_kept_only_while_they_are_small(rows: int, told: int, monkeypatch):
    """A value of 5 rows of 4 takes 160 bytes in float64, one of 4 rows 128."""
    calls: list[str] = []
    monkeypatch.setattr(lockstep, "_LARGE", 128)
    monkeypatch.setattr(lockstep, "keep_freed_pages", lambda: calls.append("keep"))
    monkeypatch.setattr(lockstep, "large_blocks_from_system", lambda: calls.append("large"))
    list(lockstep_of_net().walk({"x": np.ones((rows, 4), np.float32)}))
    assert calls == ["keep", *["large"] * told]
