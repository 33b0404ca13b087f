"""Enhancement in windows that overlap by half and are summed, as an STFT's are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Enhancer(nn.Module):
    """Args: hop: samples; a window has two hops. width: of the net that makes gains."""

    def __init__(self, hop: int = 16, width: int = 12):
        super().__init__()
        self.hop = hop
        size, bins = 2 * hop, hop + 1
        fade = torch.sin(math.pi * (torch.arange(size) + 0.5) / size)
        angle = 2 * math.pi / size * torch.arange(bins)[:, None] * torch.arange(size)
        weight = torch.full((bins, 1), 2.0 / size)
        weight[0] = weight[-1] = 1.0 / size
        into = torch.cat([torch.cos(angle), -torch.sin(angle)]) * fade
        back = torch.cat([weight * torch.cos(angle), -weight * torch.sin(angle)]) * fade
        self.register_buffer("into", into)
        self.register_buffer("back", back)
        self.inward, self.outward = nn.Linear(bins, width), nn.Linear(width, bins)

    def window(self, samples: Tensor) -> Tensor:
        """``[..., 2 hop]`` to what is added at the same place."""
        real, imaginary = (samples @ self.into.T).chunk(2, dim=-1)
        power = torch.log(real**2 + imaginary**2 + 1e-3)
        gains = torch.sigmoid(self.outward(torch.tanh(self.inward(power))))
        return torch.cat([real * gains, imaginary * gains], dim=-1) @ self.back

    def forward(self, samples: Tensor) -> Tensor:
        """``[B, N]`` of the whole, N a number of hops, to ``[B, N]``."""
        padded = nn.functional.pad(samples, (self.hop, self.hop))
        made = self.window(padded.unfold(1, 2 * self.hop, self.hop))
        return (made[:, 1:, : self.hop] + made[:, :-1, self.hop :]).flatten(1)
