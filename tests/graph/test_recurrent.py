"""Recurrent layers as single ONNX nodes, at any length, in every form that torch has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import run_model
from exporter.interpret.run_program import run_program
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


class Recurrent(nn.Module):
    """Any recurrent layer, with its initial state as an input or without."""

    def __init__(self, kind: type, given: bool, **options: object) -> None:
        super().__init__()
        self.layer, self.given = kind(5, 4, **options), given
        self.out = nn.Linear(self.layer(torch.zeros(2, 3, 5))[0].shape[-1], 3)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        state = (h, c) if isinstance(self.layer, nn.LSTM) else h
        y, last = self.layer(x, state if self.given else None)
        lasts = last if isinstance(last, tuple) else (last,)
        return self.out(y), *lasts, h.sum() + c.sum()


KINDS = {
    "lstm with a projection": (nn.LSTM, {"proj_size": 2}),
    "lstm projected, two layers, both ways": (
        nn.LSTM,
        {"proj_size": 3, "num_layers": 2, "bidirectional": True, "batch_first": True},
    ),
    "lstm projected, no bias": (nn.LSTM, {"proj_size": 2, "bias": False, "bidirectional": True}),
    "gru": (nn.GRU, {}),
    "gru, two layers, both ways": (
        nn.GRU,
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
    ),
    "gru, no bias": (nn.GRU, {"bias": False}),
    "rnn": (nn.RNN, {"batch_first": True}),
    "rnn, relu, two layers, both ways": (
        nn.RNN,
        {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True},
    ),
}


@pytest.mark.parametrize("given", [True, False], ids=["state given", "state zero"])
@pytest.mark.parametrize("name", KINDS)
def test_every_recurrent_layer_agrees_at_other_lengths(name: str, given: bool):
    kind, options = KINDS[name]
    axes = ("b", "t") if options.get("batch_first") else ("t", "b")
    rows = int(options.get("num_layers", 1)) * (2 if options.get("bidirectional") else 1)
    width = int(options.get("proj_size", 4))
    torch.manual_seed(0)
    module = Recurrent(kind, given, **options)
    batch = 3 if axes[0] == "b" else 4
    names = ["y", "h_n", *(["c_n"] if kind is nn.LSTM else []), "s"]
    shapes = {"y": (*axes, 3), "h_n": (rows, "b", width), "c_n": (rows, "b", 4), "s": ()}
    toy = make_toy(
        module,
        {
            "x": torch.randn(3, 4, 5),
            "h": torch.randn(rows, batch, width),
            "c": torch.randn(rows, batch, 4),
        },
        (floats("x", *axes, 5), floats("h", rows, "b", width), floats("c", rows, "b", 4)),
        tuple(floats(key, *shapes[key]) for key in names),
    )
    draw = np.random.default_rng(0)
    for shape in ((1, 1, 5), (2, 9, 5), (7, 2, 5)):
        size = shape[0] if axes[0] == "b" else shape[1]
        inputs = {
            "x": draw.standard_normal(shape).astype(np.float32),
            "h": draw.standard_normal((rows, size, width)).astype(np.float32),
            "c": draw.standard_normal((rows, size, 4)).astype(np.float32),
        }
        with torch.no_grad():
            expected = module(*(torch.from_numpy(value) for value in inputs.values()))
        found = run_model(toy.model, inputs, Deployment(threads=1))
        for key, value in zip(names, expected, strict=True):
            np.testing.assert_allclose(found[key], value.numpy(), atol=2e-6, err_msg=key)
