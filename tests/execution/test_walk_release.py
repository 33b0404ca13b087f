"""What a walk held is free when the walk is over, not when the garbage collector comes by."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from exporter.execution.lockstep import Lockstep
from exporter.execution.onnxruntime import Deployment
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.index import index_graph
from exporter.graph.taps import plan_taps
from exporter.tensors import Axis, TensorSpec


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer(x).relu(),)


def test_a_finished_walk_leaves_no_cycle():
    spec = TensorSpec(name="x", dtype="float32", shape=("n", 4), axes=(Axis(name="n"),))
    out = TensorSpec(name="y", dtype="float32", shape=("n", 4), axes=(Axis(name="n"),))
    captured = capture(
        Net().eval().requires_grad_(False),
        {"x": torch.ones(3, 4)},
        {"x": {0: torch.export.Dim("n")}},
    )
    exported = export(captured, inputs=(spec,), outputs=(out,), opset=18)
    graph = index_graph(ir.to_proto(exported.model), Path())
    lockstep = Lockstep(
        exported.program,
        graph,
        plan_taps(exported.program, graph),
        deployment=Deployment(threads=1),
        budget=1 << 20,
    )
    held = weakref.ref(lockstep)
    gc.disable()
    try:
        assert sum(1 for _ in lockstep.walk({"x": np.ones((5, 4), np.float32)})) >= 2
        del lockstep
        assert held() is None
    finally:
        gc.enable()
