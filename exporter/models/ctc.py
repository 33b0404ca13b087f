"""Greedy CTC decoding, and dropping entries of rows, as array operations, so that they export."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_ctc(logits: Tensor, lengths: Tensor, blank: int = 0) -> tuple[Tensor, Tensor]:
    """Best label of each frame, repeats collapsed, blanks removed, moved to the front.

        frames    7 7 0 7 3 3 0 0 | padding
        ids       7 7 3 -1 -1 -1 -1 -1 ...

    Every other label is kept, rich tags too. The result is as wide as the frames, not as the
    longest text, so its size depends on no value. Graves et al., ICML 2006, section 3.2.

    Args:
        logits: ``[R, T, V]`` float.
        lengths: ``[R]`` int64, frames in use.
        blank: the label of "nothing".

    Returns:
        token_ids ``[R, T]`` int64, padded with -1; token_lengths ``[R]`` int64.
    """
    best = logits.argmax(dim=-1)
    before = torch.cat([torch.full_like(best[:, :1], blank), best[:, :-1]], dim=1)
    place = torch.arange(best.shape[1], device=best.device)
    kept = (best != before) & (best != blank) & (place < lengths.unsqueeze(1))
    return moved_to_front(best, kept)


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
    # In this order: goldens hold the nodes of the graph as they were traced.
    label = torch.where(kept, values, -1)
    wide = torch.full_like(torch.cat([values, values[:, :1]], dim=1), -1)
    return wide.scatter(1, target, label)[:, :-1], seen[:, -1]
