"""A decision that int8 has turned within what it costs is no layer's fault, and no pass either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.config import load_pipeline
from exporter.execution.quantisers import Order, write_lowered
from exporter.flows.run import run
from exporter.flows.verify import verify
from exporter.report.schema import Report
from tests.support import toy_project
from tests.support.stages import Silent

pytestmark = pytest.mark.slow

MODULE = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, size=32):
        super().__init__()
        self.front = nn.Linear(16, size)
        self.middle = nn.Linear(size, size)
        self.head = nn.Linear(size, 6)

    def forward(self, x):
        y = torch.tanh(self.front(x))
        logits = self.head(y + torch.relu(self.middle(y)))
        return {"logits": logits, "tokens": logits.argmax(dim=-1), "marks": logits[..., 0] > 0.25}


def build():
    torch.manual_seed(0)
    return Net().eval()
"""
YAML = """\
name: decisions
model: {{factory: "toy_model:build"}}
axes: {{frames: {{minimum: 1, example: 17}}}}
inputs:
  x: {{dtype: float32, shape: [batch, frames, 16]}}
outputs: [logits, tokens, marks]
parity: {{precision: {precision}, max_ambiguous: {most}}}
cases:
  - name: long
    random: {{x: {{kind: normal, seed: 1, sizes: {{batch: 2, frames: 300}}}}}}
default_case: long
lengths: {{x: [290]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and its file in int8 by onnxruntime's quantiser."""
    made = tmp_path_factory.mktemp("decisions")
    text = YAML.format(precision="float32", most=0)
    path = toy_project.project(made, module=MODULE, yaml=text)
    run(path, progress=Silent(), output_dir=made / "out", trust=True, threads=1, cache=False)
    write_lowered(made / "out" / "model.onnx", made / "int8.onnx", Order(to="int8"))
    return made


def judged(
    folder: Path,
    to: Path,
    model: onnx.ModelProto,
    *,
    precision: str = "int8_weights",
    most: int = 0,
    layers_alone: bool = False,
) -> Report:
    onnx.save(model, to / "given.onnx")
    text = YAML.format(precision=precision, most=most)
    path = toy_project.project(to / "project", module=MODULE, yaml=text)
    return verify(
        load_pipeline(path),
        onnx=to / "given.onnx",
        output_dir=folder / "out",
        progress=Silent(),
        trust=True,
        threads=1,
        layers_alone=layers_alone,
    )


def test_what_int8_turns_within_its_cost_is_left_open(folder: Path, tmp_path: Path):
    report = judged(folder, tmp_path, onnx.load(folder / "int8.onnx"))
    assert report.verdict == "ambiguous", report.headline
    assert report.exit_code == 1
    assert not report.culprits
    reasons = {o.name: o.verdict.reason for o in report.outputs if o.verdict.verdict == "ambiguous"}
    assert "tokens" in reasons
    assert "below what int8 costs in front of it" in reasons["tokens"]
    failed = [o.name for o in report.outputs if o.verdict.verdict == "fail"]
    assert not failed


def test_of_layers_alone_no_decision_is_looked_for_at_other_lengths(folder: Path, tmp_path: Path):
    """``lower`` has counted the decisions that turn; here they are no pass either."""
    model = onnx.load(folder / "int8.onnx")

    def verdicts(layers_alone: bool) -> dict[tuple[str, str, str], str]:
        report = judged(folder, tmp_path, model, layers_alone=layers_alone)
        return {(o.link, o.case, o.name): o.verdict.verdict for o in report.outputs}

    all_of_them, alone = verdicts(False), verdicts(True)
    walked = {key for key, verdict in alone.items() if verdict == "ambiguous"}
    elsewhere = {key for key, verdict in all_of_them.items() if verdict == "ambiguous"} - walked
    assert {case for _, case, _ in walked} == {"long"}
    assert elsewhere
    assert {alone[key] for key in elsewhere} == {"fail"}


def test_a_user_may_allow_it(folder: Path, tmp_path: Path):
    report = judged(folder, tmp_path, onnx.load(folder / "int8.onnx"), most=99)
    assert report.exit_code == 0, report.headline


def test_a_threshold_that_is_another_one_is_a_fault(folder: Path, tmp_path: Path):
    model = onnx.load(folder / "int8.onnx")
    (greater,) = [node for node in model.graph.node if node.op_type == "Greater"]
    threshold = next(node for node in model.graph.node if node.output[0] == greater.input[1])
    held = threshold.attribute[0].t
    held.CopyFrom(numpy_helper.from_array(np.full(held.dims, 0.26, np.float32)))
    report = judged(folder, tmp_path, model, most=99)
    assert report.exit_code == 1
    assert [culprit.tap for culprit in report.culprits] == ["gt"]


def test_what_is_coarser_than_declared_explains_nothing(folder: Path, tmp_path: Path):
    model = onnx.load(folder / "int8.onnx")
    report = judged(folder, tmp_path, model, precision="float32", most=99)
    assert report.verdict == "fail"
    reasons = [o.verdict.reason for o in report.outputs if o.name == "tokens"]
    assert not any("costs in front" in reason for reason in reasons)
