"""Parts of a cat whose size the data decides are left alone, and asked nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.graph.empty_parts import with_plain_cats


class Places(nn.Module):
    """Where something is above zero, twice, with a row of it on a second axis."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[N]``."""
        found = torch.nonzero(x > 0)[:, 0]
        return torch.cat([found, found + 1]), torch.cat([x[None], x[None]], 1)


def test_a_size_that_the_data_decides_is_not_compared_with_nothing():
    program = torch.export.export(Places(), (torch.randn(5),), strict=False)
    before = [len(n.args[0]) for n in program.graph.nodes if n.target is torch.ops.aten.cat.default]
    after = with_plain_cats(program)
    assert before == [
        len(n.args[0]) for n in after.graph.nodes if n.target is torch.ops.aten.cat.default
    ]
