"""Modules that learn the shapes of their weights from the first input that they get."""

from __future__ import annotations

import pytest
import torch

from exporter.core.errors import ModelError
from tests.graph.repairs.models import holds, model

LAZY = {
    "linear": ("self.a = nn.LazyLinear(3)", "return self.a(x)"),
    "convolution and norm": (
        "self.a = nn.Sequential(nn.LazyConv1d(4, 3, padding=1), nn.LazyBatchNorm1d())",
        "return self.a(x.transpose(1, 2))",
    ),
    "beside others": (
        "self.a, self.b = nn.Linear(4, 5), nn.LazyLinear(2)",
        "return self.b(self.a(x))",
    ),
}


@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_module_is_run_once_and_exported(tmp_path, name):
    init, forward = LAZY[name]
    wrapped = model(tmp_path, forward, init, name="lazy")
    holds(wrapped, tmp_path, ([9, 2], [17]))
    again = model(tmp_path / "again", forward, init, name="lazy")
    weights, others = (list(held.module.state_dict().values()) for held in (wrapped, again))
    assert weights and all(map(torch.equal, weights, others))


def test_one_that_does_not_run_is_refused_with_its_line(tmp_path):
    with pytest.raises(ModelError, match=r"lazy\.py:\d+"):
        model(tmp_path, "return self.a(x[..., 0, 0, 0])", "self.a = nn.LazyLinear(3)", name="lazy")
