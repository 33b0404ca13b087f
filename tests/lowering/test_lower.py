"""``lower``: the layer that a precision breaks stays in float32, and the rest is proved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from exporter.core.errors import UserInputError
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.flows.lower import LowerOptions, lower
from exporter.graph.certificate import check_certificate
from exporter.lowering import search
from exporter.report.lowering import LoweringReport
from tests.lowering import toy
from tests.support import toy_project
from tests.support.stages import Silent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lower") / "out"


def lowered(folder: Path, out: Path, more: str = "", **how: Any) -> LoweringReport:
    given = LowerOptions(**({"prefer": "size", "max_flips": 1} | how))
    path = toy.project(folder, more)
    return lower(path, given, progress=Silent(), output_dir=out, trust=True, threads=1)


def kept(report: LoweringReport) -> set[str]:
    return {row.name for row in report.layers if row.stays}


def test_the_layer_that_int8_breaks_stays(tmp_path: Path, out: Path):
    report = lowered(tmp_path, out, to="int8")
    assert report.exit_code == 0, report.headline
    assert toy.LOUD in kept(report)
    assert len(report.layers) == 6
    assert len(kept(report)) < 4
    worst = report.layers[0]
    assert worst.name == toy.LOUD
    assert worst.effect > 3 * report.layers[1].effect
    plain, everything, chosen = report.files
    assert plain.error is not None and 0.0 < plain.error < 1e-4  # measured as the others are
    assert plain.flips == 0
    assert everything.error is not None and chosen.error is not None
    assert everything.error > report.max_error > chosen.error
    confirmed = report.confirmed
    assert confirmed.cases == ["second", "third"]
    assert confirmed.error is not None and confirmed.error <= report.max_error
    for name in ("lower.json", "lower.md", "lower.html"):
        assert (out / "lower" / name).stat().st_size > 100
    saved = LoweringReport.model_validate_json((out / "lower" / "lower.json").read_text())
    assert saved == report


def test_the_file_holds_what_the_report_says(tmp_path: Path, out: Path):
    report = lowered(tmp_path, out, to="int8")
    file = Path(report.file)
    model = onnx.load(file)
    names = {tensor.name for tensor in model.graph.initializer}
    assert any(name.endswith("_quantized") for name in names)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulInteger") + kinds.count("ConvInteger") == 6 - len(kept(report))
    held = check_certificate(file)
    assert held.intact
    assert held.certificate is not None
    assert set(json.loads(held.certificate["keep_float32"])) == kept(report)
    assert held.certificate["verdict"] == "pass"
    inputs = {"x": np.zeros((1, 5, 16), np.float32)}
    assert FileRun(file, Deployment(threads=1)).run(inputs)["tokens"].shape == (1, 5)


def test_the_section_makes_the_same_file_again(tmp_path: Path, out: Path):
    first = lowered(tmp_path / "a", out, to="int8")
    again = lowered(tmp_path / "b", out, first.yaml + "\n", to=None)
    assert kept(again) == kept(first)
    assert len(again.rounds) == 1
    assert yaml.safe_load(again.yaml) == yaml.safe_load(first.yaml)


def test_a_list_that_leaves_the_broken_layer_out_fails(tmp_path: Path, out: Path):
    section = "precision: {to: int8, keep_float32: []}\n"
    report = lowered(tmp_path, out, section, to=None)
    assert report.exit_code == 1
    assert report.verdict == "fail"
    assert "beyond the limits" in report.headline


def test_a_name_that_is_no_layer_is_refused(tmp_path: Path, out: Path):
    section = "precision: {to: int8, keep_float32: [model.lout]}\n"
    (out / "lower").mkdir(parents=True, exist_ok=True)
    (out / "lower" / "lower.json").write_text("of a run before")
    with pytest.raises(UserInputError, match=r"model\.lout"):
        lowered(tmp_path, out, section, to=None)
    assert not (out / "lower" / "lower.json").exists()


def test_what_is_within_the_limits_as_a_whole_needs_no_search(tmp_path: Path, out: Path):
    report = lowered(tmp_path, out, to="int8", max_error=20.0, max_flips=999)
    assert report.exit_code == 0, report.headline
    assert not kept(report)
    assert len(report.rounds) == 1
    assert report.files[2].error == report.files[1].error


def test_nothing_lowered_is_no_pass(tmp_path: Path, out: Path):
    report = lowered(tmp_path, out, to="int8", max_error=1e-9)
    assert report.exit_code == 1
    assert report.headline.startswith("nothing is lowered")


def test_what_gains_time_and_is_beyond_the_limits_is_said(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    for gains, said in (
        ([1.0, 1.0], "none of 2 layers that gain time here is within the limits"),
        ([0.0, 0.0], "layers gains time here"),
    ):

        def gained(layers: Any, *_: Any, gains: list[float] = gains) -> np.ndarray:
            return np.array([*gains, *(-1.0 for _ in layers[2:])])

        monkeypatch.setattr(search, "seconds_gained", gained)
        report = lowered(tmp_path, out, to="int8", max_error=1e-9, prefer="speed")
        assert report.headline.endswith(said)


@pytest.mark.parametrize("to", ["float16", "int4", "mixed", "int8_static"])
def test_other_precisions(tmp_path: Path, out: Path, to: str):
    how = {"max_error": 0.02 if to == "float16" else 0.3, "max_flips": 10}
    report = lowered(tmp_path, out, to=to, **how)
    assert report.exit_code == 0, (report.headline, report.judged)
    assert report.files[2].bytes < report.files[0].bytes
    assert len(kept(report)) < len(report.layers)


UNDER = '''\
import torch
from torch import nn


class Net(nn.Module):
    """A deviation whose square has no digits left in float16; then a head."""

    def __init__(self):
        super().__init__()
        self.front = nn.Linear(16, 16)
        self.head = nn.Linear(16, 24)

    def forward(self, x):
        y = self.front(x)
        quiet = y * 1e-4
        square = (quiet * quiet).mean(dim=-1, keepdim=True)
        # Two that move values about: one alone onnxruntime computes in float32.
        repeated = torch.cat([square] * 17, dim=-1)[..., 1:]
        y = quiet / torch.sqrt(repeated)
        return {"logits": self.head(torch.tanh(y))}


def build():
    torch.manual_seed(3)
    return Net().eval()
'''
UNDER_YAML = """\
name: under
model: {factory: "toy_model:build"}
axes: {frames: {minimum: 1, example: 17}}
inputs:
  x: {dtype: float32, shape: [batch, frames, 16]}
outputs: [logits]
cases:
  - name: first
    random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 20}}}
  - name: second
    random: {x: {kind: normal, seed: 2, sizes: {batch: 1, frames: 30}}}
default_case: first
"""


def test_what_has_no_digits_in_float16_stays_with_all_that_hands_it_on(tmp_path: Path):
    path = toy_project.project(tmp_path, module=UNDER, yaml=UNDER_YAML)
    report = lower(
        path,
        LowerOptions(to="float16", max_error=0.01),
        trust=True,
        threads=1,
        output_dir=tmp_path / "out",
    )
    assert report.exit_code == 0, report.headline
    stays = {row.name for row in report.layers if row.stays}
    assert stays >= {"cat", "slice_1"}
    assert len(stays) < 6
    # By itself it adds nothing; it rounds what it reads, and what stays in front of it is lost.
    (root,) = (row for row in report.layers if row.name == "sqrt")
    assert root.own < 1e-3
    assert root.effect > 0.1
