"""Segments of a waveform to rows of a batch."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from exporter.speech.sizes import at_least, data_dependent


class CutSegments(nn.Module):
    """Copy segments of a waveform into zero-padded rows.

    There is always at least one row: without segments it is a guard row of length 0, because
    attention cannot run on zero rows. Who uses the rows cuts results back to the segments.

    Args:
        min_samples: smallest row length; 400 is one frame of 25 ms at 16 kHz.
        granularity: a divisor of every segment start, end and of ``min_samples`` in samples
            (``SpeechSegments.granularity``). Larger values look up fewer, longer rows, which
            is faster; starts that it does not divide would be cut too early.
    """

    def __init__(self, min_samples: int = 400, granularity: int = 1) -> None:
        super().__init__()
        if min_samples < 1 or granularity < 1 or min_samples % granularity:
            raise ValueError(
                f"granularity ({granularity}) must divide min_samples ({min_samples}), both >= 1"
            )
        self.min_samples = min_samples
        self.granularity = granularity

    def forward(self, waveform: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Return one row per segment, or the guard row.

        Args:
            waveform: ``[N]`` float.
            segments: ``[S, 2]`` int64, start and end in samples, 0 <= start <= end <= N.

        Returns:
            pieces ``[max(S, 1), L]`` like ``waveform``, L the longest length but at least
            ``min_samples``; piece_lengths ``[max(S, 1)]`` int64.
        """
        step = self.granularity
        num_rows = at_least(segments.shape[0], 1)
        guarded = torch.cat([segments, segments.new_zeros(1, 2)])
        rows = guarded.index_select(0, torch.arange(num_rows, device=segments.device))
        starts, lengths = rows[:, 0], rows[:, 1] - rows[:, 0]

        # A block of zeros behind the waveform is what every place behind a piece points to.
        num_samples = waveform.shape[0]
        zeros_at = data_dependent((num_samples + step - 1) // step, like=waveform)
        behind = (zeros_at + 1) * step - num_samples
        blocks = nn.functional.pad(waveform, (0, behind)).reshape(zeros_at + 1, step)

        longest = cast(int, (lengths.max().clamp(min=self.min_samples) // step).item())
        torch._check(longest >= self.min_samples // step)
        place = torch.arange(longest, device=segments.device)
        first = (starts // step).unsqueeze(1)
        used = place * step < lengths.unsqueeze(1)
        index = torch.where(used, first + place, zeros_at)
        pieces = blocks.index_select(0, index.reshape(-1)).reshape(num_rows, longest * step)
        return pieces, lengths
