"""The truth of a module with complex weights is computed in complex128."""

from __future__ import annotations

import torch
from torch import nn

from exporter.interpret.eager_float64 import call_in_double


class Turned(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.mix = nn.Linear(width, width, dtype=torch.complex64)

    def forward(self, x):
        z = self.mix(torch.complex(x, x.flip(-1)))
        return (z * torch.ones(1, dtype=torch.complex64)).abs()


def test_complex_weights_are_widened_small_and_large():
    for width in (5, 520):
        module, x = Turned(width).eval(), torch.randn(3, width)
        found = call_in_double(module, {"x": x})
        weight, bias = (value.detach().to(torch.complex128) for value in module.parameters())
        wide = x.double()
        expected = (torch.complex(wide, wide.flip(-1)) @ weight.T + bias).abs()
        assert found.dtype == torch.float64
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
        assert module.mix.weight.dtype == torch.complex64
