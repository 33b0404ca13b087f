"""What the simplifier may do to a graph, and what it may not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxsim
import pytest
import torch
from torch import Tensor, nn

from exporter.core.errors import StageError
from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import run_model
from exporter.graph.simplify import Simplified, simplify
from exporter.parity.status import Status
from tests.support.toys import floats, make_toy, mixed, mixed_case


def test_sizes_before_and_after_are_told(capfd: pytest.CaptureFixture[str]):
    before = mixed().model
    found = simplify(before)
    assert found.nodes_before == len(before.graph.node)
    assert found.nodes_after == len(found.model.graph.node) < found.nodes_before
    assert found.bytes_before > 0
    assert not found.grew
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_it_computes_the_same():
    inputs, deployment = mixed_case().inputs, Deployment(threads=1, level="disable")
    before = run_model(mixed().model, inputs, deployment)
    after = run_model(mixed(simplified=True).model, inputs, deployment)
    np.testing.assert_allclose(after["y"], before["y"], atol=1e-6)


def test_a_dropped_output_is_refused(monkeypatch: pytest.MonkeyPatch):
    def dropping(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        result = onnx.ModelProto()
        result.CopyFrom(model)
        del result.graph.output[-1]
        return result, True

    monkeypatch.setattr(onnxsim, "simplify", dropping)
    with pytest.raises(StageError, match="onnxsim changed the outputs"):
        simplify(mixed().model)


def test_its_own_words_are_kept_when_it_fails(monkeypatch: pytest.MonkeyPatch):
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no shape for 'z'")

    monkeypatch.setattr(onnxsim, "simplify", failing)
    with pytest.raises(StageError, match="onnxsim failed: no shape for 'z'"):
        simplify(mixed().model)


@pytest.mark.parametrize(
    ("nodes", "weight_bytes", "grew"),
    [((10, 11), (100, 100), True), ((10, 9), (1000, 1009), False), ((10, 9), (1000, 1011), True)],
)
def test_growth_is_said(nodes: tuple[int, int], weight_bytes: tuple[int, int], grew: bool):
    found = Simplified(
        model=onnx.ModelProto(),
        nodes_before=nodes[0],
        nodes_after=nodes[1],
        bytes_before=weight_bytes[0],
        bytes_after=weight_bytes[1],
    )
    assert found.grew is grew


class Folded(nn.Module):
    """A convolution, and what a simplifier could fold into it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1, bias=kind != "bias")
        self.norm = nn.BatchNorm1d(6)
        self.scale = nn.Parameter(torch.ones(1, 6, 1))
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.kind == "norm":
            return self.norm(y).relu()
        return ((y * self.scale) if self.kind == "scale" else (y + self.scale)).relu()


@pytest.mark.parametrize("kind", ["norm", "scale", "bias"])
def test_a_value_keeps_its_meaning_with_its_name(kind: str):
    toy = make_toy(
        Folded(kind),
        {"x": torch.randn(2, 4, 9)},
        (floats("x", "batch", 4, "frames"),),
        (floats("y", "batch", 6, "frames"),),
        simplified=True,
    )
    x = np.random.default_rng(0).standard_normal((2, 4, 12)).astype(np.float32)
    link = toy.judge(cases=(Case(name="c", inputs={"x": x}, origin="seed 0"),))
    judged = {tap.planned.tap.op: tap.status for tap in link.taps if tap.local is not None}
    assert judged["aten.conv1d.default"] is Status.PASS and not link.culprits
