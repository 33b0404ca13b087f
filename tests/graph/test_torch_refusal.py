"""What torch.export refuses with, as data and as advice in the user's own names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.graph.torch_refusal import Refusal, refusal_of


class Sizes(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("table", torch.randn(50))

    def forward(self, x):
        if self.kind == "limit":
            return x + self.table[: x.shape[0]]
        if self.kind == "frozen":
            return x + self.table[: int(x.shape[0] * 0.5) * 2].sum() * len(x)
        if self.kind == "related":
            return x.view(4, -1) if x.shape[0] % 4 == 0 else -x
        return x * 2 if x.sum() > 0 else x


def refused(kind: str) -> Refusal:
    shapes = {"x": {0: torch.export.Dim("frames", min=4)}}
    with pytest.raises(Exception) as raised:
        torch.export.export(Sizes(kind), (torch.randn(12),), dynamic_shapes=shapes, strict=False)
    return refusal_of(raised.value, ["frames"])


def test_a_limit_is_a_limit():
    found = refused("limit")
    assert found.limits == {"frames": (4, 50)} and found.only_limits
    assert "axes: {frames: {minimum: 4, maximum: 50}}" in str(found.remedy())


def test_a_frozen_size_is_told_from_a_limit():
    found = refused("frozen")
    assert found.frozen == {"frames": 12} and not found.only_limits
    assert "freezes 'frames' at the example's 12" in str(found.remedy())


def test_a_relation_never_names_the_helper_symbol_of_torch():
    found = refused("related")
    assert found.related == {"frames": "4*_frames"}
    assert "'frames' = 4*n" in str(found.remedy()) and "_frames" not in str(found.remedy())


def test_a_branch_on_values_is_told_from_all_that():
    found = refused("values")
    assert found.from_data and not found.limits and "mask" in str(found.remedy())


def test_another_error_has_no_advice():
    assert refusal_of(ValueError("Suggested fixes:\n  other = 3"), ["frames"]).remedy() is None
