"""``debug`` where it had nothing to start from: pipelines with states, files of somebody else."""

from __future__ import annotations

import shlex
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from exporter import cli
from exporter.report.advice import next_steps
from exporter.report.schema import read_report
from tests.support import toy_project
from tests.support.plain_export import plain_export

STREAM = """\
import torch
from torch import nn


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)

    def forward(self, x, context):
        held = torch.cat([context, x], 2)
        return {"y": torch.tanh(self.conv(held)), "next_context": held[:, :, -2:]}


def build():
    torch.manual_seed(0)
    return Stream()
"""
YAML = """\
name: stream
model: {factory: "toy_model:build"}
axes: {frames: {minimum: 2, example: 17}}
inputs:
  x: {dtype: float32, shape: [batch, 4, frames]}
  context: {dtype: float32, shape: [batch, 4, 2]}
states: {next_context: context}
outputs: [y, next_context]
cases:
  - name: noise
    random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 40}}}
    steps: {size: 10}
default_case: noise
"""
ROOT = Path(__file__).resolve().parents[2]


def command(*words: object) -> int:
    return cli.main([*map(str, words), "--threads", "1", "--quiet"])


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pipeline that hands a state on, and the folder of its finished run."""
    folder = tmp_path_factory.mktemp("stream")
    yaml = toy_project.project(folder / "toy", module=STREAM, yaml=YAML)
    golden = folder / "golden"
    done = command("run", yaml, "--trust", "--output-dir", folder / "out", "--golden-dir", golden)
    assert done == 0
    return yaml, folder / "out"


def test_a_layer_of_a_pipeline_with_states_is_taken_apart(stream: tuple[Path, Path], capsys):
    yaml, out = stream
    code = command("debug", yaml, "--trust", "--output-dir", out, "--layer", "model.conv")
    said = capsys.readouterr()
    assert code == 0, said.err


def test_a_wrong_weight_behind_a_state_is_found(stream: tuple[Path, Path], tmp_path: Path, capsys):
    yaml, out = stream
    model = onnx.load(out / "model.onnx")
    toy_project.weaken(model, (4, 4, 3), 0)
    given = tmp_path / "given.onnx"
    onnx.save(model, given)
    assert command("debug", yaml, "--trust", "--output-dir", out, "--onnx", given) == 1
    assert "conv" in capsys.readouterr().out


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A pipeline, a file that plain torch has exported with a wrong weight, an output folder
    without a run in which ``verify`` has judged that file."""
    folder = tmp_path_factory.mktemp("foreign")
    yaml = toy_project.project(folder / "toy")

    def change(module: nn.Module) -> None:
        with torch.no_grad():
            module.get_parameter("model.blocks.1.outer.weight")[3, 5] += 0.5

    given = plain_export(yaml, folder / "given.onnx", change=change, trust=True)
    out = folder / "out"
    assert command("verify", yaml, "--trust", "--onnx", given, "--output-dir", out) == 1
    return yaml, given, out


def test_the_debug_command_that_verify_advises_works(foreign: tuple[Path, Path, Path], capsys):
    _, given, out = foreign
    steps = next_steps(read_report(out / "verify" / "report.json"))
    (step,) = [step for step in steps if "debug" in step]
    words = shlex.split(step.partition("export-verify ")[2])
    assert str(given) in words
    assert cli.main([*words, "--threads", "1"]) == 1
    said = capsys.readouterr().out
    assert "model.blocks.1.outer" in said and "model.blocks.0" not in said


def test_without_a_layer_the_culprit_of_a_foreign_file_is_found(
    foreign: tuple[Path, Path, Path], capsys
):
    yaml, given, out = foreign
    assert command("debug", yaml, "--trust", "--output-dir", out, "--onnx", given) == 1
    assert "model.blocks.1.outer" in capsys.readouterr().out


def test_a_healthy_foreign_file_has_no_culprit(foreign: tuple[Path, Path, Path], tmp_path: Path):
    yaml, _, out = foreign
    given = plain_export(yaml, tmp_path / "healthy.onnx", trust=True)
    assert command("debug", yaml, "--trust", "--output-dir", out, "--onnx", given) == 0


def test_a_file_that_says_nothing_of_its_layers_is_exit_2_with_what_is_possible(
    foreign: tuple[Path, Path, Path], tmp_path: Path, capsys
):
    yaml, given, out = foreign
    model = onnx.load(given)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    bare = tmp_path / "bare.onnx"
    assert command("debug", yaml, "--trust", "--output-dir", out, "--onnx", bare) == 2
    said = capsys.readouterr().err
    assert "only its outputs can be compared" in said and "torch.onnx.export(dynamo=True)" in said


def test_a_foreign_file_before_verify_is_exit_2_with_the_command(
    foreign: tuple[Path, Path, Path], stream: tuple[Path, Path], capsys
):
    yaml, given, _ = foreign
    empty = stream[1].parent / "empty"
    assert command("debug", yaml, "--trust", "--output-dir", empty, "--onnx", given) == 2
    assert "run the pipeline first" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"), [("mimi_decoder_streaming_tiny", "*conv*"), ("metavoice_tiny", "*mlp*")]
)
def test_every_pipeline_with_states_can_be_debugged(name: str, layer: str, tmp_path: Path, capsys):
    yaml, out = ROOT / "pipelines" / f"{name}.yaml", tmp_path / "out"
    assert command("run", yaml, "--output-dir", out) == 0
    assert command("debug", yaml, "--output-dir", out) == 0, capsys.readouterr().err
    onnx_path = out / "model.onnx"
    assert command("debug", yaml, "--output-dir", out, "--onnx", onnx_path) == 0
