"""Speech enhancement frame by frame in the manner of DeepFilterNet.

Bands of a frame go through a convolution that looks two frames ahead and a GRU; what comes out are
gains. Frame by frame the convolution waits for what is ahead: the stream is two frames late.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

AHEAD = 2


class Enhancer(nn.Module):
    """Args: bands: of a frame. width: of the GRU."""

    def __init__(self, bands: int = 8, width: int = 12):
        super().__init__()
        self.around = nn.Conv1d(bands, width, 2 * AHEAD + 1)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.gains = nn.Linear(width, bands)

    def forward(self, bands: Tensor) -> Tensor:
        """``[B, T, bands]`` of the whole to gains of the same shape."""
        padded = nn.functional.pad(bands.transpose(1, 2), (AHEAD, AHEAD))
        heard, _ = self.memory(torch.relu(self.around(padded)).transpose(1, 2))
        return torch.sigmoid(self.gains(heard))

    def step(
        self, bands: Tensor, frames: Tensor, heard: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One frame ``[B, 1, bands]``, the four before it ``[B, 4, bands]``, the GRU's state
        ``[1, B, width]`` and how many frames there were ``[1]``: gains of the frame two before."""
        held = torch.cat([frames, bands], dim=1)
        x = torch.relu(self.around(held.transpose(1, 2))).transpose(1, 2)
        out, following = self.memory(x, heard)
        # The frames before the first one are not heard: the state stays what it was.
        following = torch.where(count < AHEAD, heard, following)
        return torch.sigmoid(self.gains(out)), held[:, 1:], following, count + 1
