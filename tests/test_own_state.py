"""Cases in several calls through a whole run of a user's own model."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import cli
from exporter.config import load_pipeline
from exporter.core.errors import ConfigError
from exporter.graph.wrap import wrap
from exporter.report.schema import Report, read_report

MODULE = """\
import torch
from torch import nn


class Chunked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3)

    def forward(self, x, context):
        whole = torch.cat([context, x], dim=2)
        return {"y": self.conv(whole), "next_context": whole[:, :, -2:] * 1.0}
"""
YAML = """\
name: chunked
model: {factory: "chunks:Chunked"}
inputs:
  x: {dtype: float32, shape: [batch, 3, frames]}
  context: {dtype: float32, shape: [batch, 3, 2]}
axes: {frames: {example: 9}}
outputs: [y, next_context]
states: {next_context: context}
cases:
  - name: stream
    random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 14}}}
    steps: {size: 4}
default_case: stream
"""


def project(folder: Path, yaml: str = YAML) -> Path:
    (folder / "chunks.py").write_text(MODULE, encoding="utf-8")
    path = folder / "chunked.yaml"
    path.write_text(yaml, encoding="utf-8")
    return path


def run(folder: Path, yaml: str = YAML) -> Report:
    path, out = project(folder, yaml), folder / "out"
    assert cli.main(["run", str(path), "--trust", "-q", "--output-dir", str(out)]) == 0
    return read_report(out / "report.json")


def test_a_stream_in_chunks_is_judged_chunk_by_chunk_and_on_its_own_state(tmp_path):
    report = run(tmp_path)
    calls = {"stream", "stream+1", "stream+2"}
    for link in ("eager -> captured", "exported -> simplified", "own state: cpu"):
        found = {record.case for record in report.outputs if record.link.startswith(link)}
        assert found == calls, link
    own = next(link for link in report.links if link.name.startswith("own state"))
    assert (own.expected, own.verdict) == ("captured", "pass")
    taps = [tap for layer in report.links[3].layers for tap in layer.taps]
    assert {tap.case for tap in taps if tap.case} <= {"stream", "stream+1"}


def test_steps_without_states_are_refused(tmp_path):
    path = project(tmp_path, YAML.replace("states: {next_context: context}\n", ""))
    with pytest.raises(ConfigError, match="hands nothing from one call to the next") as caught:
        wrap(load_pipeline(path, trust=True))
    assert "chunked.yaml:11: cases[0].steps" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{next_context: context}", "{kept: context}", "the graph has no output 'kept'"),
        ("{next_context: context}", "{next_context: c}", "the graph has no input 'c'"),
    ],
)
def test_states_that_do_not_exist_are_refused(tmp_path, old, new, said):
    with pytest.raises(ConfigError, match=said):
        wrap(load_pipeline(project(tmp_path, YAML.replace(old, new)), trust=True))


def test_a_stream_without_a_given_context_begins_with_zeros(tmp_path):
    pipeline = load_pipeline(project(tmp_path), trust=True)
    found = wrap(pipeline)
    assert found.states == {"next_context": "context"}
    assert [spec.initial for spec in found.inputs] == [None, 0.0]
