"""An op that the exporter does not know, written in ONNX by a function that the YAML names."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import cli
from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, UserInputError
from exporter.graph.wrap import wrap
from exporter.report.schema import Report, read_report

MODULE = """\
import torch
from onnxscript.onnx_opset import opset18 as op
from torch import Tensor, nn


@torch.library.custom_op("export_verify_tests::snake", mutates_args=())
def snake(x: Tensor, rate: Tensor, scale: float) -> Tensor:
    return x + scale * torch.sin(rate * x)


@snake.register_fake
def _(x, rate, scale):
    return torch.empty_like(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = nn.Linear(8, 8)
        self.behind = nn.Linear(8, 8)
        self.rate = nn.Parameter(torch.rand(8) + 0.5)

    def forward(self, x):
        y = torch.ops.export_verify_tests.snake(self.before(x), self.rate, 0.5)
        return self.behind(y)


def right(x, rate, scale):
    turned = op.Sin(op.Mul(rate, x))
    return op.Add(x, op.Mul(turned, op.CastLike(op.Constant(value_float=scale), x)))


def wrong(x, rate, scale):  # forgets the scale
    return op.Add(x, op.Sin(op.Mul(rate, x)))


def wrong_when_long(x, rate, scale):  # beyond the example's frames and the case's alone
    frames = op.Gather(op.Shape(x), op.Constant(value_int=1))
    long = op.Greater(frames, op.Constant(value_int=12))
    factor = op.Where(long, op.Constant(value_float=2.0), op.Constant(value_float=1.0))
    turned = op.Mul(op.Sin(op.Mul(rate, x)), op.CastLike(factor, x))
    return op.Add(x, op.Mul(turned, op.CastLike(op.Constant(value_float=scale), x)))


LIMIT = 3
"""
YAML = """\
name: mine
model: {factory: "snakes:Net"}
inputs:
  x: {dtype: float32, shape: [batch, frames, 8]}
axes: {frames: {example: 12}}
outputs: [y]
EXPORT
cases:
  - {name: one, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 9}}}}
default_case: one
"""
OP = "export_verify_tests::snake"


def project(folder: Path, function: str | None, op: str = OP) -> Path:
    (folder / "snakes.py").write_text(MODULE)
    table = "" if function is None else f"export: {{custom_translation: {{'{op}': '{function}'}}}}"
    path = folder / "mine.yaml"
    path.write_text(YAML.replace("EXPORT", table))
    return path


def run(folder: Path, function: str | None) -> tuple[int, Report | None]:
    path, out = project(folder, function), folder / "out"
    arguments = ["run", str(path), "--trust", "--threads", "1", "--output-dir", str(out)]
    code = cli.main(arguments)
    kept = out / "report.json"
    return code, read_report(kept) if kept.is_file() else None


def test_a_right_translation_passes_and_its_op_is_compared(tmp_path):
    code, report = run(tmp_path, "snakes:right")
    assert code == 0 and report is not None
    layers = next(link for link in report.links if link.name.startswith("layers"))
    assert layers.compared == 3


def test_a_wrong_translation_fails_at_its_op(tmp_path):
    code, report = run(tmp_path, "snakes:wrong")
    assert code == 1 and report is not None and report.verdict == "fail"
    first = report.culprits[0]
    assert (first.op, first.stage) == ("export_verify_tests.snake.default", "export")


def test_a_translation_that_is_wrong_at_sizes_that_no_case_has(tmp_path):
    code, report = run(tmp_path, "snakes:wrong_when_long")
    assert code == 1 and report is not None and report.verdict == "fail"
    wrong = [link.name for link in report.links if link.verdict == "fail"]
    # The program is the module there; the file is not, and it is looked into at such a size.
    assert wrong[0] == "captured -> exported"
    first = report.culprits[0]
    assert (first.op, first.stage) == ("export_verify_tests.snake.default", "export")
    assert not any("batch 3, frames 13" in note for note in report.notes if "also agree" in note)


def test_an_op_that_was_corrected_is_the_one_that_counts(tmp_path, monkeypatch):
    assert run(tmp_path, "snakes:right")[0] == 0
    monkeypatch.setitem(globals(), "MODULE", MODULE.replace("scale * torch", "torch"))
    assert run(tmp_path, "snakes:right")[0] == 1
    assert run(tmp_path, "snakes:wrong")[0] == 0  # which is right for the op as it is now


def test_an_op_that_nobody_translates_is_named_with_the_remedy(tmp_path, capsys):
    code, _ = run(tmp_path, None)
    said = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert f"does not know the op '{OP}'" in said and "snakes.py:2" in said
    assert f"custom_translation: {{'{OP}': MODULE:FUNCTION}}" in said


def test_without_trust_no_translation_is_imported(tmp_path):
    path = project(tmp_path, "not_there:right")
    with pytest.raises(UserInputError, match="trust"):
        wrap(load_pipeline(path))


@pytest.mark.parametrize(
    ("function", "op", "words"),
    [
        ("not_there:right", OP, "there is no module 'not_there'"),
        ("snakes:nothing", OP, "'nothing' in .*snakes.py does not exist"),
        ("snakes:LIMIT", OP, "is not callable"),
        ("snakes:right", "export_verify_tests::adder", "torch has no op"),
        ("snakes:right", "not_there::snake", "torch has no op"),
        ("snakes:right", f"{OP}.out", "torch has no op"),
    ],
)
def test_what_is_not_there_is_said_at_the_line_of_the_table(tmp_path, function, op, words):
    path = project(tmp_path, function, op)
    with pytest.raises(ConfigError, match=words) as raised:
        wrap(load_pipeline(path, trust=True))
    assert "mine.yaml:7: export.custom_translation" in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("export_verify_tests::snake", "snake"),
        ("snakes:right", "snakes.right"),
        ('model: {factory: "snakes:Net"}', "model: {kind: sensevoice}"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, old, new):
    path = project(tmp_path, "snakes:right")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match="custom_translation|inputs"):
        load_pipeline(path)


def test_a_pipeline_without_a_table_has_the_digest_that_it_had(tmp_path):
    plain = load_pipeline(project(tmp_path, None))
    assert "custom_translation" not in plain.model_dump_json()
    assert load_pipeline(project(tmp_path, "snakes:right")).graph_digest != plain.graph_digest
