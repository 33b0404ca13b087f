"""weight_norm and spectral_norm: folded with PyTorch's own bits, or said; copies lose no axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from exporter.flows.run import run
from exporter.graph.index import index_graph
from exporter.graph.normed_weights import folded_notes, normed_weights
from tests.models.test_factory import project

KINDS = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "WeightNorm": nn.utils.parametrizations.weight_norm,
    "SpectralNorm": nn.utils.parametrizations.spectral_norm,
}


def graph_of(array: np.ndarray):
    held = numpy_helper.from_array(array, "held")
    model = helper.make_model(helper.make_graph([], "g", [], [], [held]))
    return index_graph(onnx.ModelProto.FromString(model.SerializeToString()), Path())


def module_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(KINDS[kind](nn.Linear(4, 3))).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_folded_is_compared_bit_by_bit(kind):
    module = module_of(kind)
    module(torch.zeros(1, 4))
    ((path, what, value),) = normed_weights(module)
    assert (path, kind in what) == ("0.weight", True)
    torch.testing.assert_close(value, module[0].weight, rtol=0, atol=0)
    own = value.numpy()
    found = [(path, what, value)]
    assert folded_notes(found, graph_of(own))[0].endswith("with PyTorch's own bits")
    assert folded_notes(found, graph_of(own.T.copy()))[0].endswith("with PyTorch's own bits")
    near = own.copy()
    near[0, 0] = np.nextafter(near[0, 0], np.float32(9))
    assert "up to" in folded_notes(found, graph_of(near))[0]
    assert "anew in each run" in folded_notes(found, graph_of(own + 1))[0]
    assert "anew in each run" in folded_notes(found, graph_of(np.zeros(5, np.float32)))[0]


def test_a_plain_module_has_none():
    assert not list(normed_weights(nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 3))))


MODULE = """\
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.utils.weight_norm(nn.Conv1d(4, 4, 3, padding=1))

    def forward(self, x):
        return torch.tanh(self.conv(x.transpose(1, 2)))
"""
YAML = """\
name: mine
model: {factory: "my_model:Model"}
axes: {frames: {example: 12}}
inputs: {x: {dtype: float32, shape: [batch, frames, 4]}}
outputs: [y]
cases: [{name: one, random: {x: {kind: normal, seed: 1}}}]
default_case: one
"""


def test_a_model_with_old_hooks_keeps_its_axes_and_says_what_became_of_them(tmp_path):
    path = project(tmp_path, module=MODULE, yaml=YAML)
    report = run(path, output_dir=tmp_path / "out", trust=True, cache=False, threads=1)
    assert report.verdict == "pass"
    notes = "\n".join(report.notes)
    assert "'model.conv.weight': weight_norm is folded into one weight" in notes
    # A copy that failed was taken for a model that stops below two frames.
    assert "beyond, the model stops" not in notes
