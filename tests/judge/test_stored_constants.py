"""Constants of a file that a lower precision stores: they cost what their own format costs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.judge.layer_results import JudgedTap, LayerLink
from exporter.judge.layers import judge_layers
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from tests.support.lowered import to_float16
from tests.support.toys import Toy, floats, index, make_toy

X = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)


class Centred(nn.Module):
    """``view`` is a constant once the file is simplified."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        values = torch.linspace(-1.7, 2.3, 16)
        self.register_buffer("mean", values)
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(x - self.mean.view(1, -1)))


@cache
def toy() -> Toy:
    example = {"x": torch.from_numpy(X)}
    inputs, outputs = (floats("x", "batch", 16),), (floats("y", "batch", 4),)
    return make_toy(Centred(), example, inputs, outputs, simplified=True)


@pytest.fixture
def narrow(tmp_path: Path) -> onnx.ModelProto:
    onnx.save(toy().model, tmp_path / "plain.onnx")
    return onnx.load(to_float16(tmp_path / "plain.onnx", tmp_path / "narrow.onnx"))


def judged(model: onnx.ModelProto, precision: str) -> LayerLink:
    return judge_layers(
        toy().program,
        index(model),
        (Case(name="one", inputs={"x": X}, origin="drawn"),),
        policy=Policy(precision=precision),
        deployment=Deployment(threads=1),
        budget=1 << 24,
    )


def constant(link: LayerLink) -> JudgedTap:
    (tap,) = [tap for tap in link.taps if tap.planned.constant]
    return tap


def test_a_constant_in_float16_costs_what_float16_costs(narrow):
    link = judged(narrow, "float16")
    assert not link.culprits
    tap = constant(link)
    assert [j.verdict.status for j in tap.both] == [Status.PASS, Status.PASS]
    assert tap.local is not None and tap.local.measurement.dtype_actual == "float16"


def test_where_nobody_declared_it_it_fails(narrow):
    assert constant(judged(narrow, "float32")).fails_by_itself


def test_a_wrong_constant_in_float16_fails(narrow):
    name = constant(judged(narrow, "float16")).planned.onnx_name
    (tensor,) = [tensor for tensor in narrow.graph.initializer if tensor.name == name]
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[5] += 0.02
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    assert constant(judged(narrow, "float16")).fails_by_itself


def test_in_float32_it_is_the_bits_that_count():
    tap = constant(judged(toy().model, "float16"))
    assert tap.local is not None and tap.local.verdict.status is Status.PASS
    assert tap.local.measurement.held == ()
