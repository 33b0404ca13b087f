"""Mixtures of experts: rows in groups, each multiplied by its own matrix, in the file as well."""

from __future__ import annotations

import pytest
import torch

from exporter.graph.repairs.grouped_ops import grouped_product
from tests.graph.repairs.models import holds, model

HEAD = "from transformers.integrations.moe import _grouped_mm"
INIT = "self.experts = nn.Parameter(torch.randn(3, 4, 8))"
SORTED = (
    "rows = x.reshape(-1, 4)\nexpert = (rows[:, 0] > 0).long() * 2\n"
    "expert, order = torch.sort(expert, stable=True)\n"
    "ends = torch.stack([(expert <= at).sum() for at in range(3)]).to(torch.int32)\n"
)
CASES = ([9, 2, 5, 1], [30], [1])


@pytest.mark.parametrize(
    "product",
    [
        "_grouped_mm(rows[order], self.experts, ends)",
        "_grouped_mm(rows[order] * 0, -self.experts, offs=ends)",
    ],
)
def test_an_expert_without_tokens_and_one_with_all(tmp_path, product):
    forward = f"{SORTED}return {product}"
    found = holds(model(tmp_path, forward, INIT, head=HEAD, name="experts"), tmp_path, CASES)
    assert [note for note in found.notes if "'grouped_products'" in note]
    assert "products of groups one by one" in found.strategy


def test_rows_behind_the_last_group_are_zero():
    x, weights = torch.randn(6, 4), torch.randn(2, 4, 3)
    found = grouped_product(x, weights, torch.tensor([2, 4], dtype=torch.int32))
    assert torch.equal(found[:2], x[:2] @ weights[0]) and not found[4:].any()
    assert torch.equal(found[2:4], x[2:4] @ weights[1])
