"""Reflection at the ends of every row of a padded batch, each at its own length."""

from __future__ import annotations

import torch
from torch import Tensor


def reflected_index(lengths: Tensor, size: int, margin: int) -> Tensor:
    """Where each place of a padded row comes from, as ``pad(mode="reflect")`` would do it alone.

        row of length 4      a b c d . .         (two steps of padding, never read)
        margin 2         c b a b c d c b a b
        index            2 1 0 1 2 3 2 1 0 1

    Behind the margin the reflection goes on, with period ``2 (length - 1)``, so every place of the
    result is a value of its own row, and padding has no say whatever it holds. Unlike
    ``torch.nn.functional.pad`` it also works where the margin is longer than the row.

    Args:
        lengths: ``[B]`` int64, at least 1.
        size: steps of the padded rows.
        margin: steps to add on each side.

    Returns:
        ``[B, size + 2 margin]`` int64, all in [0, length).
    """
    place = torch.arange(size + 2 * margin, device=lengths.device) - margin
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    period = (2 * last).clamp(min=1)
    within = torch.remainder(place.unsqueeze(0), period)
    return torch.minimum(within, period - within).clamp(min=0).minimum(last)
