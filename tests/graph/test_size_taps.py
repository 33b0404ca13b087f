"""Sizes are compared like any other value, so that a wrong one does not accuse its readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from exporter.core.tensors import COMPARED, Axis, Case, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.graph.capture import capture
from exporter.graph.export import Exported, export
from exporter.graph.index import index_graph
from exporter.graph.taps import plan_taps
from exporter.judge.layer_results import LayerLink
from exporter.judge.layers import judge_layers
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from tests.faults.editor import Editor


class Half(nn.Module):
    def forward(self, x: Tensor) -> int:
        return x.shape[0] // 2


class Ramp(nn.Module):
    def forward(self, x: Tensor, size: int) -> Tensor:
        return x.sum() * torch.arange(size).float()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.halved = Half()
        self.first = Ramp()
        self.second = Ramp()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        size = self.halved(x)
        return (self.first(x, size) + self.second(x * 2, size),)


@pytest.fixture(scope="module")
def exported() -> Exported:
    sizes = Axis(name="n", minimum=4)
    spec = TensorSpec(name="x", dtype="float32", shape=("n",), axes=(sizes,))
    out = TensorSpec(name="y", dtype="float32", shape=("m",), axes=(Axis(name="m"),))
    captured = capture(
        Net().eval(), {"x": torch.arange(6.0)}, {"x": {0: torch.export.Dim("n", min=4)}}
    )
    return export(captured, inputs=(spec,), outputs=(out,), opset=18)


def judged(exported: Exported, *, baked: bool) -> LayerLink:
    editor = Editor(ir.to_proto(exported.model), exported.program)
    if baked:
        node = editor.producer(editor.size("halved", "floordiv"))
        editor.replace(node, "Identity", editor.constant(np.int64(3)))
    case = Case(name="c", inputs={"x": np.arange(10, dtype=np.float32)}, origin="by hand")
    graph = index_graph(editor.model, Path())
    return judge_layers(
        exported.program,
        graph,
        [case],
        policy=Policy(),
        deployment=Deployment(threads=1),
        budget=1 << 20,
    )


def test_a_size_is_a_tap_with_its_module(exported: Exported):
    graph = index_graph(ir.to_proto(exported.model), Path())
    half = [t for t in plan_taps(exported.program, graph) if t.tap.module == "halved"]
    assert {t.fate for t in half} == {COMPARED} and half[-1].tap.op == "operator.floordiv"


def test_right_sizes_pass(exported: Exported):
    link = judged(exported, baked=False)
    assert link.culprits == ()
    assert {tap.status for tap in link.taps} == {Status.PASS}


def test_a_wrong_size_accuses_the_layer_that_computes_it_and_no_reader(exported: Exported):
    link = judged(exported, baked=True)
    assert [c.tap.planned.tap.module for c in link.culprits] == ["halved"]
    found = link.culprits[0].tap.local
    assert found is not None and "1 of 1 differ" in found.verdict.reason
