"""Spectra from capture to layers: a wrong sign, a lost window and a conjugate are found where."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.core.errors import ModelError
from exporter.flows.run import run
from exporter.flows.verify import verify
from tests.models.test_factory import project

MODULE = """\
import torch
from torch import nn


class Analysis(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(12))

    def forward(self, x):
        return torch.stft(x, 12, 3, window=self.window, return_complex=True)


class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(7, 1, dtype=torch.complex64))

    def forward(self, z):
        return z * self.weight


class Synthesis(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(12))

    def forward(self, z, length):
        return torch.istft(z, 12, 3, window=self.window, length=length)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.analysis, self.mask, self.synthesis = Analysis(), Mask(), Synthesis()

    def forward(self, x):
        return self.synthesis(self.mask(self.analysis(x)), x.shape[1])
"""
YAML = """\
name: mine
model: {factory: "my_model:Model"}
axes: {samples: {example: 60}}
inputs:
  x: {dtype: float32, shape: [batch, samples]}
outputs: [y]
cases:
  - {name: one, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, samples: 71}}}}
  - {name: two, random: {x: {kind: normal, seed: 2, sizes: {batch: 3, samples: 100}}}}
default_case: one
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectra")
    path = project(folder, module=MODULE, yaml=YAML)
    report = run(
        path, output_dir=folder / "out", trust=True, cache=False, threads=1, all_cases=True
    )
    return folder, report


def test_a_model_of_spectra_passes_and_says_what_was_replaced(made):
    folder, report = made
    assert (report.verdict, report.exit_code, report.fallback) == ("pass", 0, "")
    (note,) = [note for note in report.notes if "'complex_pairs'" in note]
    assert "stft() at" in note and "istft() at" in note and "complex mul at" in note
    layers = next(link for link in report.links if link.layers)
    assert layers.compared and layers.missing == 0
    ops = {node.op_type for node in onnx.load(folder / "out" / "model.onnx").graph.node}
    assert not ops & {"DFT", "STFT"}


def node_of(model: onnx.ModelProto, op: str, *read: str) -> onnx.NodeProto:
    """The first node of a kind that reads values whose names begin so."""
    return next(
        node
        for node in model.graph.node
        if node.op_type == op
        and all(any(name.startswith(begin) for name in node.input) for begin in read)
    )


def no_window(model):
    node = node_of(model, "Mul", "model.analysis.window")
    ones = numpy_helper.from_array(np.ones(12, np.float32), "ones")
    model.graph.initializer.append(ones)
    node.input[1] = "ones"


def conjugate(model):
    product = node_of(model, "MatMul")
    (held,) = [node for node in model.graph.node if node.output[0] == product.input[1]]
    matrix = numpy_helper.to_array(held.attribute[0].t).copy()
    assert matrix.shape == (12, 14)
    matrix[:, 1::2] *= -1
    held.attribute[0].t.CopyFrom(numpy_helper.from_array(matrix))


def wrong_sign(model):
    node_of(model, "Sub", "mul_4", "mul_5").op_type = "Add"


def no_envelope(model):
    (node,) = [each for each in model.graph.node if each.output[0] == "y"]
    assert node.op_type == "Div"
    node.op_type = "Mul"


FAULTS = {
    "analysis": (no_window, conjugate),
    "mask": (wrong_sign,),
    "synthesis": (no_envelope,),
}


@pytest.mark.parametrize(
    ("layer", "fault"), [(layer, fault) for layer, faults in FAULTS.items() for fault in faults]
)
def test_a_planted_fault_is_found_in_its_layer(made, tmp_path, layer, fault):
    folder, _ = made
    model = onnx.load(folder / "out" / "model.onnx")
    fault(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    report = verify(
        folder / "mine.yaml",
        tmp_path / "wrong.onnx",
        output_dir=folder / "out",
        trust=True,
        changed_on_purpose=True,
    )
    assert report.verdict == "fail"
    assert report.culprits[0].layer.split(".")[-1] == layer


def test_switched_off_the_model_is_refused(tmp_path):
    path = project(
        tmp_path, module=MODULE, yaml=f"{YAML}capture: {{repairs: {{complex_pairs: false}}}}\n"
    )
    with pytest.raises(ModelError, match="'samples'"):
        run(path, output_dir=tmp_path / "out", trust=True, cache=False, threads=1)
