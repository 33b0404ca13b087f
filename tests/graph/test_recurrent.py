"""Recurrent layers as single ONNX nodes, at any length, in every form that torch has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.execution.evaluate import run_program
from exporter.execution.onnxruntime import Deployment, run_model
from tests.support.toys import floats, make_toy


class Lstm(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x)
        return y, h, c


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"bias": False, "bidirectional": True, "batch_first": True},
    ],
)
def test_an_lstm_is_one_node_a_layer_and_agrees_at_other_lengths(options: dict[str, object]):
    axes = ("b", "t") if options.get("batch_first") else ("t", "b")
    layers = int(str(options.get("num_layers", 1)))
    directions = 2 if options.get("bidirectional") else 1
    toy = make_toy(
        Lstm(**options),
        {"x": torch.randn(3, 4, 5)},
        (floats("x", *axes, 5),),
        (
            floats("y", *axes, 4 * directions),
            floats("h", layers * directions, "b", 4),
            floats("c", layers * directions, "b", 4),
        ),
    )
    ops = [node.op_type for node in toy.model.graph.node]
    assert ops.count("LSTM") == layers
    assert "Loop" not in ops
    assert "Scan" not in ops
    for shape in ((1, 1, 5), (2, 9, 5), (7, 2, 5)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        expected = run_program(toy.program, {"x": x})
        found = run_model(toy.model, {"x": x}, Deployment(threads=1))
        for name in ("y", "h", "c"):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
