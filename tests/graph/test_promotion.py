"""The exporter's casts are those of torch's own pass; only what gets one is run again."""

from __future__ import annotations

import contextlib
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from exporter.core.tensors import Axis, TensorSpec
from exporter.graph import promotion
from exporter.graph.capture import capture, keep_recurrent_ops, quiet_exporter
from exporter.graph.export import export
from exporter.graph.promotion import known_values

FRAMES = Axis(name="frames", minimum=1)
INPUTS = (
    TensorSpec(name="x", dtype="float32", shape=("frames", 4), axes=(FRAMES,)),
    TensorSpec(name="ids", dtype="int64", shape=("frames",), axes=(FRAMES,)),
)
OUTPUTS = (
    TensorSpec(name="y", dtype="float32", shape=("frames", 4), axes=(FRAMES,)),
    TensorSpec(name="shares", dtype="float32", shape=("frames",), axes=(FRAMES,)),
)


class Mixed(nn.Module):
    """Integers meet floats, also behind a size that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        scaled = self.linear(x) * ids.unsqueeze(1) + torch.arange(4)
        kept = torch.nonzero(ids > 0).squeeze(1)
        count = kept.shape[0]
        return torch.where(ids.unsqueeze(1) > 0, scaled, 2), ids / (count + ids.abs())


def exported(monkeypatch: pytest.MonkeyPatch | None = None) -> bytes:
    torch.manual_seed(0)
    module = Mixed().eval().requires_grad_(False)
    example = {"x": torch.randn(5, 4), "ids": torch.arange(5) - 1}
    dim = torch.export.Dim("frames", min=1)
    program = capture(module, example, {"x": {0: dim}, "ids": {0: dim}})
    if monkeypatch is not None:
        monkeypatch.setattr("exporter.graph.export.known_values", contextlib.nullcontext)
    model = export(program, inputs=INPUTS, outputs=OUTPUTS, opset=18).model
    return ir.to_proto(model).SerializeToString(deterministic=True)


def test_the_file_is_the_one_that_torchs_own_pass_gives(monkeypatch: pytest.MonkeyPatch):
    ours = exported()
    assert ours == exported(monkeypatch)
    assert ours.count(b"Cast") >= 2


def test_only_what_gets_a_cast_is_run(monkeypatch: pytest.MonkeyPatch):
    from torch.onnx._internal.fx.passes import type_promotion

    interpreter: Any = type_promotion._TypePromotionInterpreter  # type: ignore[attr-defined]
    ran: list[str] = []
    real = interpreter.call_function

    def watched(self: Any, target: Any, args: Any, kwargs: Any) -> Any:
        ran.append(str(target))
        return real(self, target, args, kwargs)

    monkeypatch.setattr(interpreter, "call_function", watched, raising=False)
    exported()
    ours = len(ran)
    ran.clear()
    exported(monkeypatch)
    assert 0 < ours < len(ran) / 2


def test_torch_is_left_as_it_was():
    from torch.onnx._internal.exporter import _fx_passes

    before = _fx_passes.insert_type_promotion_nodes
    with known_values():
        assert _fx_passes.insert_type_promotion_nodes is not before
    assert _fx_passes.insert_type_promotion_nodes is before


def test_another_torch_runs_its_own_pass(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(promotion, "type_promotion", None)
    with keep_recurrent_ops(), quiet_exporter():
        assert exported()
