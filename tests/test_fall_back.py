"""Where torch.export refuses a model and the legacy exporter does not: its file, and a verdict."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.core.errors import ModelError
from exporter.flows.run import run
from exporter.flows.verify import verify
from exporter.graph.program_file import load_program
from exporter.report.overall_verdict import verdict_line
from exporter.report.schema import read_report
from tests.models.test_factory import project

MODULE = """\
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, ask="True", write=False):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(4, 8)
        self.outer = nn.Linear(8, 4)
        self.norm = nn.LayerNorm(4)
        self.register_buffer("ready", torch.tensor(True))
        self.ask = ask

    def forward(self, x):
        y = torch.relu(self.inner(x))
        if self.ready:
            y = self.norm(self.outer(y))
        if eval(self.ask):
            y = y * 2
        return y
"""
YAML = """\
name: mine
model: {factory: "my_model:Model", settings: {ask: "ASK"}}
axes:
  frames: {minimum: 1, example: 12}
inputs:
  x: {dtype: float32, shape: [batch, frames, 4]}
outputs: [y]
cases:
  - {name: one, random: {x: {kind: normal, seed: 1}}}
default_case: one
"""


def given(folder, ask: str = "True", more: str = ""):
    return project(folder, module=MODULE, yaml=YAML.replace("ASK", ask) + more)


def ran(folder, ask: str = "True", more: str = ""):
    path = given(folder, ask, more)
    return run(path, output_dir=folder / "out", trust=True, cache=False, threads=1)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("healthy")
    return folder, ran(folder)


def test_a_model_that_asks_its_own_buffer_gets_a_file_value_by_value(healthy):
    folder, report = healthy
    assert (report.verdict, report.exit_code) == ("pass", 0)
    layers = next(link for link in report.links if link.layers)
    assert layers.compared == 5 and layers.missing == 0
    assert {layer.module for layer in layers.layers} >= {"model.inner", "model.outer", "model.norm"}
    assert (folder / "out" / "model.onnx").is_file()


def test_it_is_said_everywhere(healthy):
    folder, report = healthy
    assert "data-dependent" in report.fallback and "my_model.py:17" in report.fallback
    assert verdict_line(report) == "PASS, fall-back file of the legacy exporter"
    assert report.headline.startswith("torch.export refuses the model")
    assert report.notes[0].startswith("no captured program")
    assert any("a trace does not hold" in line for line in report.not_checked)
    assert read_report(folder / "out" / "report.json").fallback == report.fallback
    assert load_program(folder / "out" / "program").fallback == report.fallback
    page = (folder / "out" / "report.md").read_text()
    assert "fall-back file of the legacy exporter" in page


WRONG_ELSEWHERE = {
    "x.shape[1] % 2 == 0": "multiple of 2",
    "x.shape[1] < 45": "frames < 45",
    "x.shape[1] * 2 != 84": "case 'batch 3, frames 42'",
}


@pytest.mark.parametrize("ask", WRONG_ELSEWHERE)
def test_a_way_that_only_some_sizes_take_fails_at_the_others(tmp_path, ask):
    report = ran(tmp_path, ask)
    assert (report.verdict, report.exit_code) == ("fail", 1)
    assert report.links[0].name == "eager -> captured"
    assert report.links[0].verdict == "fail"
    assert WRONG_ELSEWHERE[ask] in report.links[0].reason


def test_a_decision_by_values_is_refused_as_before_and_says_what_a_trace_would_keep(tmp_path):
    with pytest.raises(ModelError) as raised:
        ran(tmp_path, "x.sum() > 0")
    assert "would keep what the example decides" in raised.value.problem
    assert raised.value.where.endswith("my_model.py:17")


def test_switched_off_the_refusal_stands(tmp_path):
    path = given(tmp_path, more="capture: {fallback: none}\n")
    with pytest.raises(ModelError) as raised:
        run(path, output_dir=tmp_path / "out", trust=True, cache=False)
    assert "legacy" not in raised.value.problem


def test_a_trace_of_one_size_is_no_file(tmp_path):
    counted = MODULE.replace("y = y * 2", "y = y.reshape(len(x), int(x.shape[1]), 4)")
    path = project(tmp_path, module=counted, yaml=YAML.replace("ASK", "True"))
    with pytest.raises(ModelError) as raised:
        run(path, output_dir=tmp_path / "out", trust=True, cache=False)
    assert "a trace helps no further: it takes " in raised.value.problem
    assert raised.value.where.endswith("my_model.py:17")


def changed(path, to, key: str) -> None:
    """The file with one weight of the layer that holds ``key`` scaled."""
    model = onnx.load(path)
    (held,) = [t for t in model.graph.initializer if t.name.endswith(key)]
    array = numpy_helper.to_array(held).copy()
    array.flat[1] += 0.01
    held.CopyFrom(numpy_helper.from_array(array, held.name))
    onnx.save(model, to)


@pytest.mark.parametrize("layer", ["inner", "outer", "norm"])
def test_one_changed_weight_is_found_in_its_layer(healthy, tmp_path, layer):
    folder, _ = healthy
    wrong = tmp_path / "wrong.onnx"
    changed(folder / "out" / "model.onnx", wrong, f"model.{layer}.bias")
    report = verify(
        folder / "mine.yaml",
        wrong,
        output_dir=folder / "out",
        trust=True,
        changed_on_purpose=True,
    )
    assert report.verdict == "fail"
    assert report.culprits[0].layer == f"model.{layer}"
    assert report.fallback


def test_the_same_file_verified_passes(healthy):
    folder, _ = healthy
    report = verify(
        folder / "mine.yaml",
        folder / "out" / "model.onnx",
        output_dir=folder / "out",
        trust=True,
    )
    assert report.verdict == "pass" and report.fallback
    assert np.isfinite(report.links[0].coverage or 0.0)
