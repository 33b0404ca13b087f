"""What a build leaves in its folder: every command sees the same inputs, states and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import exporter
from exporter import Report, RunOptions
from exporter.build.artifacts import Artifacts
from exporter.cases.load import load_cases
from exporter.config import Pipeline, load_pipeline
from exporter.core.tensors import Arrays, TensorSpec
from exporter.flows import check as check_flow
from exporter.flows import contracts_of_run, given_file, golden_check, golden_record
from exporter.golden.store import read_golden
from exporter.graph.wrap import wrap

MODULE = """\
import torch
from torch import nn


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3)

    def forward(self, x, context):
        if context.shape[2] < 6:
            context = context * 2
        before = self.conv(context).mean(2, keepdim=True)
        return {"y": torch.tanh(x + before), "next_context": torch.cat([context, x], 2)}
"""
YAML = """\
name: remembering
model: {factory: "remembering:Remembering"}
inputs:
  x: {dtype: float32, shape: [batch, 3, frames]}
  context: {dtype: float32, shape: [batch, 3, past]}
axes: {frames: {example: 9}}
outputs: [y, next_context]
states: {next_context: context}
cases: [{name: c, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 5}}}}]
default_case: c
"""


@dataclass(frozen=True)
class Made:
    yaml: Path
    pipeline: Pipeline
    options: RunOptions
    report: Report

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts(folder=self.options.folder(self.pipeline))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("remembering")
    (folder / "remembering.py").write_text(MODULE, encoding="utf-8")
    yaml = folder / "remembering.yaml"
    yaml.write_text(YAML, encoding="utf-8")
    options = RunOptions(
        output_dir=folder / "out", golden_dir=folder / "golden", threads=1, trust=True, cache=False
    )
    report = exporter.run(yaml, options)
    assert report.exit_code == 0, report.headline
    return Made(yaml=yaml, pipeline=options.opened(yaml), options=options, report=report)


def inputs_of(made: Made, specs: tuple[TensorSpec, ...]) -> Arrays:
    (case,) = load_cases(made.pipeline, specs, ["c"])
    return case.inputs


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def test_the_program_holds_states_and_the_sizes_that_were_found_to_be_taken(made):
    by_name = {spec.name: spec for spec in made.artifacts.inputs}
    (past,) = [axis for axis in by_name["context"].axes if axis.name == "past"]
    # One way of the branch was exported: no declaration says so, the capture has found it.
    declared = {axis.name: axis for spec in wrap(made.pipeline).inputs for axis in spec.axes}
    assert past.minimum == 6 > declared["past"].minimum and by_name["context"].initial == 0.0
    assert by_name["x"].initial is None
    context = inputs_of(made, made.artifacts.inputs)["context"]
    assert list(context.shape) == made.report.cases[0].shapes["context"] and not context.any()


def test_debug_sees_the_states_of_the_run(made):
    found = exporter.debug(made.yaml, made.options)
    assert same(found.pair.case.inputs, inputs_of(made, made.artifacts.inputs))


def test_check_sees_the_states_of_the_run(made, monkeypatch):
    seen = []

    def watched(target, *args, **kwargs):
        seen.append(target)
        return []

    monkeypatch.setattr(check_flow, "run_contracts", watched)
    exporter.check(made.yaml, ["mutation"], made.options)
    (target,) = seen
    assert target.inputs == made.artifacts.inputs
    assert same(target.cases[0].inputs, inputs_of(made, made.artifacts.inputs))


def test_verify_sees_the_states_of_the_run(made, monkeypatch):
    seen = []
    real = given_file.Chain

    def watched(subject, *args, **kwargs):
        seen.append(subject)
        return real(subject, *args, **kwargs)

    monkeypatch.setattr(given_file, "Chain", watched)
    report = exporter.verify(made.yaml, made.artifacts.shipped, made.options)
    assert report.exit_code == 0 and seen[0].inputs == made.artifacts.inputs
    assert report.cases == made.report.cases


def test_a_golden_sees_the_states_of_the_run(made):
    golden_record.record(made.yaml, made.options, reason="test", from_run=True)
    golden = read_golden(made.options.golden_dir / "remembering")
    assert golden.inputs == made.artifacts.inputs
    assert same(inputs_of(made, golden.inputs), inputs_of(made, made.artifacts.inputs))
    assert golden_check.check(made.yaml, made.options, onnx=made.artifacts.shipped).exit_code == 0


def test_what_belongs_to_another_state_of_the_pipeline_is_not_taken(made, tmp_path):
    wrapped = wrap(made.pipeline)
    folder = made.artifacts.folder
    assert contracts_of_run.finished_run(made.pipeline, wrapped, folder) == Artifacts(folder=folder)
    other = tmp_path / "other.yaml"
    other.write_text(made.yaml.read_text().replace("frames: {example: 9}", "frames: {example: 8}"))
    (tmp_path / "remembering.py").write_text(MODULE, encoding="utf-8")
    changed = load_pipeline(other, trust=True)
    assert contracts_of_run.finished_run(changed, wrap(changed), folder) is None
    assert contracts_of_run.finished_run(made.pipeline, wrapped, tmp_path) is None
