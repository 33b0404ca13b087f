"""A view of a value that lies in memory in another way than when it was captured."""

from __future__ import annotations

import torch

from exporter.graph.program import Op, Ref
from exporter.interpret.evaluate import call


def test_a_view_is_taken_of_a_transposed_value():
    op = Op(
        name="flat", target="aten.view.default", args=(Ref("x"), (2, 12)), kwargs={}, kind="tensor"
    )
    lies = torch.arange(24.0).reshape(2, 3, 4)
    other = lies.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(call(op, {"x": lies}.__getitem__), lies.reshape(2, 12))
    assert torch.equal(call(op, {"x": other}.__getitem__), lies.reshape(2, 12))
