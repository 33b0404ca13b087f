"""Tokens that fire, row by row, are FunASR's, bit for bit."""

from __future__ import annotations

import pytest
import torch
from funasr.models.paraformer.cif_predictor import CifPredictorV2, cif_v1, cif_wo_hidden_v1
from torch import nn

from exporter.graph.repairs.cif import REPAIR, fired
from exporter.graph.repairs.frame import repaired
from tests.graph.repairs.models import unrun

WEIGHTS = {
    "random": lambda: torch.rand(3, 20),
    "rows that fire at other frames": lambda: (
        torch.rand(4, 30) * torch.linspace(0.2, 1, 4)[:, None]
    ),
    "one row": lambda: torch.rand(1, 9),
    "a silent row": lambda: torch.rand(2, 20) * torch.tensor([[0.0], [1.0]]),
    "nothing fires": lambda: torch.full((2, 5), 0.05),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_tokens_are_those_of_upstream(name):
    torch.manual_seed(0)
    alphas = WEIGHTS[name]()
    hidden = torch.randn(*alphas.shape, 4)
    # Where weights add up to less than one more token than fires, upstream has a frame of zeros.
    alphas = alphas / alphas.sum(1, keepdim=True).clamp(min=1) * alphas.sum(1, keepdim=True).floor()
    expected, _ = cif_v1(hidden, alphas + 1e-4, 1.0)
    fires, does = cif_wo_hidden_v1(alphas + 1e-4, 1.0, return_fire_idxs=True)
    assert torch.equal(fired(hidden, alphas + 1e-4, fires, does), expected)


def test_it_stands_in_for_upstreams_function_while_the_block_runs():
    torch.manual_seed(0)
    module = CifPredictorV2(4, 1, 1, tail_threshold=0.45).eval()
    hidden, mask = torch.randn(2, 15, 4), torch.ones(2, 1, 15)
    plain = module(hidden, mask=mask)
    with torch.no_grad(), repaired(unrun(module), [REPAIR]) as logs:
        other = module(hidden, mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
    assert not REPAIR.matches(unrun(nn.Linear(2, 2))) and REPAIR in logs
    from funasr.models.paraformer import cif_predictor

    assert cif_predictor.cif_v1 is cif_v1
