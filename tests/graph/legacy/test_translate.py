"""A trace as a program computes what the module does, writes and views and sizes included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from exporter.core.errors import StageError
from exporter.graph.legacy.trace import trace
from exporter.graph.legacy.translate import translate
from exporter.interpret.run_program import run_program, run_with_truth

SIZES = ((2, 6), (3, 9), (1, 5))
FORWARDS = {
    "writes in place": "y = x.clone(); y.relu_(); y.mul_(2); return y",
    "a write through a slice": "y = x.clone(); y[:, 1:3] = 0; return y * 2",
    "a write through a slice of a slice": "y = x.clone(); y[:, 1:][:, :2] += x[:, :2]; return y",
    "a write to one step": "y = x.clone(); y[:, 0] = x[:, -1]; return y",
    "a write to the last channel": "y = x.clone(); y[..., -1] += 2; return y",
    "a write through a transposed view": "y = x.clone(); y.transpose(1, 2)[:, 0] = 1; return y",
    "a write through a permuted view": "y = x.clone(); y.permute(2, 0, 1)[1] *= 3; return y",
    "a write through a view of other rank": "y = x.clone(); y.view(x.shape[0], -1)[:, :3] = 7\n"
    "return y",
    "a view that is read after a write": "y = x.clone(); v = y[:, :2]; y.add_(1)\n"
    "return torch.cat([y, v * 2], 1)",
    "the whole that is read after a part was written": "y = x.clone(); v = y[:, 2]; v.fill_(3)\n"
    "return y + y.mean()",
    "what was read before a write": "y = x.clone(); a = y * 2; y.zero_(); return a + y",
    "a masked write": "y = x.clone(); y.masked_fill_(x > 0, -1.0); return y",
    "a write at indices": "y = x.clone(); y[:, torch.tensor([0, 2])] = 5.0; return y",
    "a part of a list that is written later": "a, b = x[:, :2].clone(), x[:, 2:4].clone()\n"
    "parts = [a, b]; a.add_(1)\nreturn torch.cat(parts, 1)",
    "sizes": "b, n, c = x.shape\nreturn x.reshape(b, n * c // 2, -1) / (n - 1)",
    "a mask from sizes": "n = x.shape[1]\nreturn x * (torch.arange(n) < n // 2 + 1)[None, :, None]",
    "a tensor of a size": "return torch.zeros(x.shape[0], x.shape[1] + 2, 4) + x[:, :1]",
    "chunks": "a, b = x.chunk(2, -1)\nreturn a * torch.sigmoid(b)",
    "a half": "n = x.shape[1] // 2\nreturn x[:, :n] - x[:, n : 2 * n]",
    "double and back": "return (x.double() * 3).to(x.dtype)",
    "an input handed through": "return x",
}


class Model(nn.Module):
    def __init__(self, body: str):
        super().__init__()
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        held: dict = {}
        exec(f"import torch\ndef forward(self, x):\n{lines}", held)
        self.body = held["forward"]

    def forward(self, x):
        return (self.body(self, x),)


def agree(module: nn.Module, *, atol: float = 0.0) -> None:
    """The program of a trace at (2, 6), and the module, at several sizes."""
    example = {"x": torch.randn(2, 6, 4)}
    program = translate(trace(module, [*example.values()], ["x"]), example, ["y"]).program
    for batch, frames in SIZES:
        x = torch.randn(batch, frames, 4)
        with torch.no_grad():
            (expected,) = module(x.clone())
        found = run_program(program, {"x": x.numpy()})["y"]
        np.testing.assert_allclose(found, expected.numpy(), atol=atol, rtol=0)
        plain, truth = run_with_truth(program, {"x": x.numpy()})
        np.testing.assert_allclose(truth["y"], plain["y"], atol=1e-5)


@pytest.mark.parametrize("name", FORWARDS)
def test_a_trace_is_the_module_at_other_sizes(name):
    agree(Model(FORWARDS[name]).eval())


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True, bidirectional=True)
        self.conv = nn.Conv1d(8, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        y, _ = self.lstm(x)
        return (self.norm(self.drop(self.act(self.conv(y.transpose(1, 2)))).transpose(1, 2)),)


def test_layers_of_torch_are_one_op_each_and_say_where_they_are():
    module = Layers().eval()
    agree(module, atol=1e-6)
    example = {"x": torch.randn(2, 6, 4)}
    program = translate(trace(module, [*example.values()], ["x"]), example, ["y"]).program
    by_target = {op.target: op for op in program.ops}
    assert by_target["aten.lstm.input"].module == "lstm"
    assert by_target["aten.convolution.default"].module_class == "torch.nn.modules.conv.Conv1d"
    assert by_target["aten.layer_norm.default"].source.startswith("graph/legacy/test_translate.py:")


REFUSED = {
    "a write to a weight": "self.weight.add_(1); return x * self.weight",
    "a write through an unfolded view": "y = x.clone(); y.unfold(1, 2, 2)[:, 0] = 1; return y",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_program_holds_is_refused(name):
    module = Model(REFUSED[name]).eval()
    module.register_buffer("weight", torch.ones(4))
    with pytest.raises(StageError) as raised:
        agree(module)
    assert "in a trace" in raised.value.detail


def test_a_value_that_is_written_to_later_is_not_asked_of_the_file():
    example = {"x": torch.randn(2, 6, 4)}
    body = "y = x * 2; z = y + 1; y.mul_(3); return y * z"
    found = translate(trace(Model(body).eval(), [*example.values()], ["x"]), example, ["y"])
    held = {op.name: op.target for op in found.program.ops if op.name in found.values}
    assert "aten.add.Tensor" in held.values()
    # x * 2 is no value of the file's at its end; what it became is.
    assert [op.name in held for op in found.program.ops if "mul" in op.target] == [
        False,
        True,
        True,
    ]
