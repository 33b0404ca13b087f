"""Low frame rate: stack neighbouring frames and keep every n-th."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.core.errors import ConfigError


class LowFrameRate(nn.Module):
    """Stack ``lfr_m`` frames, moving ``lfr_n`` at a time; the ends repeat the outermost frame.

        m = 7, n = 6:   0 0 0 0 1 2 3 | 3 4 5 6 7 8 9 | 9 10 .. T-1 T-1 T-1

    Same result as ``apply_lfr`` in FunASR's ``frontends/wav_frontend.py``.

    Args:
        lfr_m: frames in a stack.
        lfr_n: distance of stacks.
    """

    def __init__(self, lfr_m: int, lfr_n: int) -> None:
        super().__init__()
        if lfr_m < 1 or lfr_n < 1:
            raise ConfigError(
                f"lfr_m = {lfr_m} and lfr_n = {lfr_n} are impossible",
                where="lfr_m, lfr_n",
                remedy="use positive integers",
            )
        self.lfr_m = lfr_m
        self.lfr_n = lfr_n
        offset = torch.arange(lfr_m) - (lfr_m - 1) // 2
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, frames: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stacks of every row and how many of them are real.

        Args:
            frames: ``[R, T, D]`` float, T >= 1.
            frame_counts: ``[R]`` int64, frames in use, at most T.

        Returns:
            stacks ``[R, ceil(T / lfr_n), lfr_m * D]``; counts ``[R]`` int64, ceil(count / lfr_n).
        """
        rows, time, size = frames.shape
        steps = (time + self.lfr_n - 1) // self.lfr_n
        device = frames.device
        first = (torch.arange(steps, device=device) * self.lfr_n).unsqueeze(1)
        wanted = first + self.get_buffer("offset")
        last = (frame_counts - 1).clamp(min=0).reshape(-1, 1, 1)
        within = torch.minimum(wanted.clamp(min=0), last)  # [R, steps, lfr_m]
        row_start = (torch.arange(rows, device=device) * time).reshape(-1, 1, 1)
        # One Gather of whole frames; indexing two axes would become a far slower GatherND.
        picked = frames.reshape(rows * time, size).index_select(0, (within + row_start).reshape(-1))
        stacks = picked.reshape(rows, steps, self.lfr_m * size)
        counts = (frame_counts + (self.lfr_n - 1)) // self.lfr_n
        return stacks, counts
