"""A graph of one op has no layers but its outputs: its golden is recorded and checked by these."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from exporter.cli import main

CODE = """
from torch import nn

class Scale(nn.Module):
    def forward(self, x):
        return x * 2.0

def build():
    return Scale()
"""
YAML = """
name: one_op
model: {factory: "one_op_model:build"}
inputs:
  x: {dtype: float32, shape: [batch, n]}
outputs: [y]
cases:
  - name: a
    random: {x: {kind: normal, seed: 1, sizes: {batch: 2, n: 8}}}
default_case: a
"""


@pytest.mark.slow
def test_a_golden_of_one_op(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "one_op_model.py").write_text(CODE)
    (tmp_path / "one.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    words = ["one.yaml", "--trust", "--output-dir", "out", "--quiet"]
    assert main(["golden", "record", *words, "--reason", "test"]) == 0, capsys.readouterr().err
    assert main(["golden", "check", *words, "--onnx", "out/model.onnx"]) == 0
    model = onnx.load("out/model.onnx")
    changed = 0
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.5, tensor.name))
        changed += 1
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value":
                held = numpy_helper.to_array(attribute.t) * 1.5
                attribute.t.CopyFrom(numpy_helper.from_array(held.astype("float32")))
                changed += 1
    assert changed
    onnx.save(model, "other.onnx")
    assert main(["golden", "check", *words, "--onnx", "other.onnx"]) == 1
