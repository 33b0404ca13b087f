"""The contracts on SenseVoice: what is shipped passes, what is broken on purpose is named, and
what upstream does today is seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.contracts import run_contracts
from exporter.contracts.target import Target
from exporter.core.tensors import Axis, TensorSpec
from exporter.flows.check import check
from exporter.graph.wrap import wrap
from exporter.report.overall_verdict import contracts_exit_code
from tests.support.target_from_module import no_file, target_from_module

PIPELINES = Path(__file__).parents[2] / "pipelines"
UPSTREAM = "funasr/models/sense_voice/model.py"


class Quiet:
    """Shows nothing."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Any]:
        yield SimpleNamespace(result=lambda text: None)

    def phase(self, detail: str, done: int | None = None, total: int | None = None) -> None: ...

    def note(self, text: str) -> None: ...


def batch_subject(change: Any = None) -> Target:
    pipeline = load_pipeline(PIPELINES / "sensevoice_batch_tiny.yaml")
    wrapped = wrap(pipeline)
    if change is not None:
        change(wrapped.module)
    return Target(
        name="batch",
        module=wrapped.module,
        inputs=wrapped.inputs,
        outputs=wrapped.outputs,
        cases=load_cases(pipeline, wrapped.inputs, (pipeline.default_case,)),
        onnx=no_file("not needed here"),
        example=wrapped.example,
    )


class IgnoresLengths(nn.Module):
    """Tells the model that every row is full."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor, counts: Tensor, *rest: Tensor) -> dict[str, Tensor]:
        full = torch.full_like(counts, features.shape[1])
        return self.inner(features, full, *rest)


def ignore_lengths(module: nn.Module) -> None:
    module.model = IgnoresLengths(module.model)


@pytest.mark.slow
def test_what_is_shipped_keeps_all_its_contracts(tiny_run) -> None:
    pipeline = load_pipeline(PIPELINES / "sensevoice_tiny.yaml")
    records = check(pipeline, contracts=None, output_dir=tiny_run.folder, progress=Quiet())
    found = {(record.name, record.side): record for record in records}
    assert {name for name, _ in found} == set(pipeline.contracts)
    skipped = {("padding", "torch"), ("padding", "onnx"), ("dtype", "onnx")}
    for key, record in found.items():
        expected = "not applicable" if key in skipped else "pass"
        assert record.verdict == expected, (key, record.reason)
    assert contracts_exit_code(records) == 0


@pytest.mark.slow
def test_padding_does_not_leak_in_the_batch_graph() -> None:
    found = run_contracts(batch_subject(), {"padding": None, "mutation": None})
    verdicts = {(r.name, r.side): str(r.status) for r in found}
    assert verdicts["padding", "torch"] == verdicts["mutation", "torch"] == "pass"
    assert verdicts["padding", "onnx"] == "not run"


@pytest.mark.slow
def test_lengths_that_are_ignored_leak_first_in_the_first_attention() -> None:
    torch_side, _ = run_contracts(batch_subject(ignore_lengths), {"padding": None})
    assert torch_side.status == "fail" and torch_side.where is not None
    assert torch_side.where.module.startswith("model.inner.encoder.encoders0.0.self_attn")
    assert UPSTREAM in torch_side.where.source


@pytest.mark.slow
def test_upstreams_encoder_writes_into_its_input() -> None:
    encoder = batch_subject().module.get_submodule("model.encoder")
    batch, time = Axis(name="batch"), Axis(name="time", minimum=4)
    inputs = (
        TensorSpec(name="x", dtype="float32", shape=("batch", "time", 560), axes=(batch, time)),
        TensorSpec(name="x_lengths", dtype="int64", shape=("batch",), axes=(batch,)),
    )
    outputs = (
        TensorSpec(name="y", dtype="float32", shape=("batch", "time", 512), axes=(batch, time)),
    )
    made = target_from_module(encoder, inputs=inputs, outputs=outputs, with_onnx=False)
    torch_side, _ = run_contracts(made, {"mutation": None})
    assert torch_side.status == "fail" and torch_side.where is not None
    assert "input 'x': its content changed" in torch_side.reason
    assert torch_side.where.op == "aten.mul_.Tensor" and UPSTREAM in torch_side.where.source


@pytest.mark.slow
def test_upstreams_mask_is_float32_in_a_float16_model() -> None:
    settings = {"precisions": ["float16"], "scope": "model.encoder"}
    torch_side, _ = run_contracts(batch_subject(), {"dtype": settings})
    assert torch_side.status == "fail" and torch_side.where is not None
    assert torch_side.where.module == "model.encoder.encoders0.0.self_attn"
    assert torch_side.reason.startswith("promotion") and UPSTREAM in torch_side.where.source
    assert "float16" in (torch_side.advice or "")
