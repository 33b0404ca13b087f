"""Drop entries of rows as array operations, so that it exports."""

from __future__ import annotations

import torch
from torch import Tensor


def moved_to_front(values: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Move what is kept of each row to its front, in order.

        values    7 9 2 5
        kept      + - - +
        result    7 5 -1 -1,  2

    Args:
        values: ``[R, N]`` int64.
        kept: ``[R, N]`` bool.

    Returns:
        ``[R, N]`` int64, padded with -1; how many were kept, ``[R]`` int64.
    """
    seen = kept.to(torch.int64).cumsum(1)
    # What is dropped all writes -1 into one column too many, which is then cut off.
    target = torch.where(kept, seen - 1, values.shape[1])
    wide = torch.full_like(torch.cat([values, values[:, :1]], dim=1), -1)
    return wide.scatter(1, target, torch.where(kept, values, -1))[:, :-1], seen[:, -1]
