"""Files without names in which no value that is compared shows what is wrong: never a pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from exporter import cli
from exporter.config import load_pipeline
from exporter.flows.verify import verify
from exporter.report.schema import CHECK_UNSHOWN, Report
from tests.support import other_tools as tools
from tests.support import toy_project
from tests.support.foreign_tools import dynamo
from tests.support.plain_export import plain_export
from tests.support.stages import Silent

MODULE = """\
import torch
from torch import nn

FAR = -50.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.Linear(16, 24)
        self.clip = nn.Linear(24, 20)
        self.maximum = nn.Linear(20, 18)
        self.pool = nn.Conv1d(18, 14, 3, padding=1)
        self.head = nn.Linear(14, 12)
        with torch.no_grad():
            for layer in (self.relu, self.clip, self.maximum, self.pool):
                layer.bias[3] = FAR

    def forward(self, x, lengths):
        mask = torch.arange(x.shape[1])[None] < lengths[:, None]
        y = torch.relu(self.relu(x)) * mask[..., None]
        y = torch.clamp(self.clip(y), 0.0, 6.0)
        y = torch.maximum(self.maximum(y), torch.zeros(()))
        y = self.pool(y.transpose(1, 2))
        y = nn.functional.max_pool2d(y.unsqueeze(1), (1, 3), 1, padding=(0, 1)).squeeze(1)
        y = torch.relu(y).transpose(1, 2)
        return {"logits": self.head(y)}


def build():
    torch.manual_seed(0)
    return Net().eval()
"""
YAML = """\
name: unshown
model: {factory: "toy_model:build"}
axes: {frames: {minimum: 4, example: 17}}
inputs:
  x: {dtype: float32, shape: [batch, frames, 16]}
  lengths: {dtype: int64, shape: [batch], draw: {kind: integers, low: 5, high: 17}}
outputs: [logits]
cases:
  - name: noise
    random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 40}}}
    inputs: {lengths: [40, 40]}
default_case: noise
"""
DEAD = {"relu": 24, "clip": 20, "maximum": 18, "pool": 14}
"""Layers of which a unit is kept back whatever goes in, and how many units they have."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unshown")
    yaml = toy_project.project(made, module=MODULE, yaml=YAML)
    command = ["run", str(yaml), "--output-dir", str(made / "out")]
    assert cli.main([*command, "--trust", "--threads", "1", "--quiet"]) == 0
    tools.legacy(made, module=MODULE)
    dynamo(made, MODULE)
    plain_export(yaml, made / "torch.onnx", trust=True)
    return made


def judged(folder: Path, file: Path) -> Report:
    return verify(
        load_pipeline(folder / "toy.yaml"),
        onnx=file,
        output_dir=folder / "out",
        progress=Silent(),
        trust=True,
        threads=1,
    )


def _nameless(made: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda folder: tools.renamed(made(folder / "legacy.onnx"))


Made = Callable[[Path], Path]
WITHOUT_NAMES: dict[str, Made] = {
    "legacy": _nameless(lambda legacy: legacy),
    "onnxsim": _nameless(tools.simplified),
    "onnxruntime": _nameless(tools.optimised),
    "converted": _nameless(tools.converted),
}
NAMED: dict[str, Made] = {
    "names, onnxsim": lambda folder: tools.simplified(folder / "dynamo.onnx"),
    "names, onnxruntime": lambda folder: tools.optimised(folder / "dynamo.onnx"),
}
"""Names of torch's, and nothing that says where a value comes from."""
DESCRIBED: dict[str, Made] = {"torch": lambda folder: folder / "torch.onnx"}
"""Each node says where it comes from, as in the pipeline's own program."""
UNDESCRIBED = WITHOUT_NAMES | NAMED
MADE = UNDESCRIBED | DESCRIBED


def biased(layer: str) -> tools.Fault:
    """The bias of the unit that is kept back is another one, and kept back as well."""

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.shape == (DEAD[layer],) and array[3] == -50.0:
                wrong = array.copy()
                wrong[3] = -40.0
                tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))
                return
        raise LookupError(f"no bias of '{layer}'")

    return change


@pytest.mark.parametrize("tool", MADE)
def test_a_healthy_file_passes(folder: Path, tool: str):
    report = judged(folder, MADE[tool](folder))
    assert report.exit_code == 0, report.headline
    assert not [check for check in report.checks if check.code == CHECK_UNSHOWN]


@pytest.mark.parametrize("layer", DEAD)
@pytest.mark.parametrize("tool", UNDESCRIBED)
def test_what_an_operator_keeps_back_is_wrong(folder: Path, tool: str, layer: str):
    report = judged(folder, tools.faulty(UNDESCRIBED[tool](folder), biased(layer)))
    assert all(output.verdict.verdict == "pass" for output in report.outputs)
    # The convolution's own value is found by its name, and is wrong.
    compared = tool in NAMED and layer == "pool"
    assert report.verdict == ("fail" if compared else "ambiguous"), report.headline
    assert compared or "keeps back" in report.headline
    assert f"layer 'model.{layer}'" in report.headline


@pytest.mark.parametrize("layer", DEAD)
@pytest.mark.parametrize("tool", DESCRIBED)
def test_what_is_kept_back_is_compared_where_the_file_says_what_it_is(
    folder: Path, tool: str, layer: str
):
    report = judged(folder, tools.faulty(DESCRIBED[tool](folder), biased(layer)))
    assert report.verdict == "fail", report.headline
    assert report.culprits[0].layer == f"model.{layer}"


@pytest.mark.parametrize("tool", MADE)
def test_a_mask_that_no_row_here_needs_is_wrong(folder: Path, tool: str):
    report = judged(folder, tools.faulty(MADE[tool](folder), tools.mask))
    assert all(output.verdict.verdict == "pass" for output in report.outputs)
    assert report.exit_code == 1, report.headline
    assert "LessOrEqual" in report.headline
