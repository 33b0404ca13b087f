"""What a model's Python reads while it is traced: sizes are conditions, values are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.graph.legacy.trace import trace

BY_VALUES = {
    "a branch on a sum": "if x.sum() > 0:\n    x = x + 1\nreturn x",
    "a length as a number": "return x[:, : int(lengths.max())]",
    "an item": "return x * lengths.max().item()",
    "a list": "return x[:, : max(lengths.tolist())]",
    "an array": "return x * float(lengths.numpy().max())",
    "equal tensors": "return x if torch.equal(x[0], x[1]) else x + 1",
    "how many there are": "if x[x > 0].shape[0] > 3:\n    x = x + 1\nreturn x",
    "a new tensor": "return torch.where(torch.tensor(x.max() > 0), x, -x)",
    "a new tensor of several": "return x[:, :2] * torch.tensor([lengths.max(), 1])[:, None]",
    "a list as a tensor": "return x * torch.as_tensor([[lengths.max()]])",
    "a new tensor like another": "return x + x.new_tensor(lengths.max())",
    "a new tensor by its keyword": "return x + x.new_tensor(data=[lengths.max()])",
    "behind a write": "y = torch.zeros(3); y[0] = x.max()\nreturn x if y[0] > 0 else x + 1",
}
BY_SIZES = {
    "if x.shape[1] % 2 == 0:\n    x = x + 1\nreturn x": "a multiple of 2",
    "if x.shape[1] - 2 < 40:\n    x = x + 1\nreturn x": "< 40",
    "if not x.shape[1] > 40:\n    x = x + 1\nreturn x": "not (frames > 40)",
    "for _ in range(x.shape[1]):\n    x = x + 1\nreturn x": "frames == 6",
    "return x + int(x.shape[1] // 2)": "frames // 2 == 3",
}
BY_NEITHER = {
    "a buffer": "if self.ready:\n    x = x + 1\nreturn x",
    "a number of a buffer": "return x * self.scale.item()",
    "a new tensor of a buffer": "return x * torch.tensor([self.scale, 2.0])[0]",
    "a tensor as it is": "return x * torch.as_tensor(lengths).max()",
    "no question at all": "return x + x.shape[1]",
}


class Model(nn.Module):
    def __init__(self, body: str):
        super().__init__()
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        held: dict = {}
        exec(f"import torch\ndef forward(self, x, lengths):\n{lines}", held)
        self.body = held["forward"]
        self.register_buffer("ready", torch.tensor(True))
        self.register_buffer("scale", torch.tensor(3.0))

    def forward(self, x, lengths):
        return (self.body(self, x, lengths),)


def decisions_of(body: str):
    example = [torch.randn(2, 6, 4), torch.tensor([6, 4])]
    return trace(Model(body).eval(), example, ["x", "lengths"]).decisions


@pytest.mark.parametrize("name", BY_VALUES)
def test_what_is_decided_by_values_of_the_inputs_is_seen(name):
    assert any(held.by_data for held in decisions_of(BY_VALUES[name]))


@pytest.mark.parametrize("body", BY_SIZES)
def test_what_is_decided_by_sizes_is_a_condition(body):
    found = decisions_of(body)
    assert not any(held.by_data for held in found)
    guards = [held.guard for held in found if held.guard is not None]
    axes = {"x": ("batch", "frames", 4), "lengths": ("batch",)}
    assert any(BY_SIZES[body] in guard.words(axes) for guard in guards)
    assert all(guard.holds({"x": (2, 6, 4), "lengths": (2,)}) for guard in guards)
    assert not all(guard.holds({"x": (2, 47, 4), "lengths": (2,)}) for guard in guards)


@pytest.mark.parametrize("name", BY_NEITHER)
def test_a_models_own_numbers_are_no_decisions(name):
    assert decisions_of(BY_NEITHER[name]) == ()
